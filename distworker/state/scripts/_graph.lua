-- The moves of the work graph: subscriptions, homes, barriers, failure, images, room in a job.
--
-- keys     those of _common.lua and _ready.lua, and: images running outcomes jobs open unreported cancelling
--          fly_control fly_layers subs due
--
-- A job hash: v st(ate) rec(ord) first (packed spec) made closed total cursor stop err win(dow) c:<counter>
--             pz 1: paused by an operator

local create, subscribe, settle, advance, leave, rehome, pass_on, drop, deliver, fail, close_image, room

-- jobs
local function job_state(job) return redis.call('HGET', key('job', job), 'st') or '' end
local function job_open(job) local st = job_state(job); return st == 'running' or st == 'cancelling' end

local function count(job, name, amount)
  if redis.call('EXISTS', key('job', job)) == 1 then
    redis.call('HINCRBY', key('job', job), 'c:' .. name, string.format('%.0f', amount))
  end
end

-- out of the air, the timers and the ready ring; frees exactly what it held; it becomes 'wait'
local function land(r)
  if r.st == 'ready' then ready_remove(r) end
  if r.st == 'queued' or r.st == 'run' or r.st == 'delay' then redis.call('ZREM', key('due'), r.id) end
  if r.st == 'queued' or r.st == 'run' then
    redis.call('SREM', key(LAYER[kind(r.id)] and 'fly_layers' or 'fly_control'), r.id)
    redis.call('SREM', key('running', r.p.j), r.id)
  end
  for _, slot in ipairs(r.hd or {}) do redis.call('SREM', key('use', slot), r.id) end
  r.hd, r.tk, r.ow, r.te, r.mv, r.sz = nil, nil, nil, nil, nil, nil
  r.st, r.t = 'wait', second
end

-- a landed step goes where it belongs: behind its barrier, or to the ready ones
advance = function(r)
  if not r.se then settle(r) end
  if barrier_size(r) == 0 then
    r.st, r.t = 'ready', second
    r.o = r.o or next_number()
    ready_add(r)
  end
end

create = function(id, spec, subscriber)
  spec.i = nil
  local r = {id = id, st = 'wait', t = second, p = spec, v = R.v}
  records[id] = r
  local k = kind(id)
  if k == 'm' and redis.call('EXISTS', key('job', spec.j)) == 1 then
    redis.call('SADD', key('images', spec.j), string.sub(id, 3))
  end
  r.h = subscriber
  if not ROOT[k] then
    r.h = subscriber or '*'
    spec.q = next_number()
  end
  advance(r)
end

-- subscribers as {name, spec}, oldest first; a root step's specs mean nothing
local function subscribers(r)
  local out = {}
  if (r.n or 0) > 0 then
    local flat = redis.call('HGETALL', key('subs', r.id))
    for n = 1, #flat, 2 do out[#out + 1] = {flat[n], cmsgpack.unpack(flat[n + 1])} end
  end
  if r.h then out[#out + 1] = {r.h, ROOT[kind(r.id)] and {q = 0} or r.p} end
  table.sort(out, function(a, b) return a[2].q < b[2].q end)
  return out
end

local function subscriber_remove(r, name)
  if r.h == name then r.h = nil; return true end
  if (r.n or 0) > 0 and redis.call('HDEL', key('subs', r.id), name) == 1 then
    r.n = r.n - 1
    return true
  end
  return false
end

local function subscriber_put(r, name, spec)
  if redis.call('HSET', key('subs', r.id), name, cmsgpack.pack(spec)) == 1 then r.n = (r.n or 0) + 1 end
end

-- the subscriber whose way comes next: of a job that is not paused, highest priority, oldest
local function best(r)
  local found, found_rank
  for _, s in ipairs(subscribers(r)) do
    local rank = (s[2].p or 5) - (job_paused(s[2].j) and 100 or 0)
    if not found or rank > found_rank then found, found_rank = s, rank end
  end
  return found
end

-- w waits for that step, made now or by somebody before
subscribe = function(w, spec)
  local id = spec.i
  spec.i = nil
  barrier_add(w, id)
  local r = get(id)
  if not r then return create(id, spec, w.id) end
  if ROOT[kind(id)] then
    if not r.h then r.h = w.id
    elseif r.h ~= w.id then subscriber_put(r, w.id, {q = next_number()}) end
    return
  end
  local known
  if r.h == w.id then known = r.p
  elseif (r.n or 0) > 0 then
    local raw = redis.call('HGET', key('subs', id), w.id)
    known = raw and cmsgpack.unpack(raw)
  end
  spec.q = known and known.q or next_number()
  if not r.h or r.h == w.id then
    r.k = nil
    rehome(r, w.id, spec)
  else
    subscriber_put(r, w.id, spec)
    pass_on(r)
  end
end

-- make the barrier what the current spec needs and has not got; the spec's needs are used up by it
settle = function(r)
  local wanted, needs = {}, r.p.n or {}
  for _, need in ipairs(needs) do if not got_has(r, need.i) then wanted[need.i] = true end end
  r.se, r.p.n = 1, nil
  for _, id in ipairs(barrier(r)) do
    if not wanted[id] then
      barrier_remove(r, id)
      leave(id, r.id)
    end
  end
  for _, need in ipairs(needs) do if wanted[need.i] then subscribe(r, need) end end
end

-- tries, rounds, patience and errors belong to the way it was done
local function afresh(r) r.at, r.ru, r.ro, r.pw, r.er = nil, nil, nil, nil, nil end

-- run it that subscriber's way from now on; what is queued or running goes on as it is
rehome = function(r, home, spec)
  local old = r.p.j
  if r.st == 'ready' then land(r) end
  if home ~= r.h then
    afresh(r)
    if not spec then
      spec = cmsgpack.unpack(redis.call('HGET', key('subs', r.id), home))
      subscriber_remove(r, home)
    end
  end
  r.h, r.p, r.se = home, spec or r.p, nil
  if r.st == 'run' then
    redis.call('SREM', key('running', old), r.id)
    if redis.call('EXISTS', key('job', r.p.j)) == 1 then redis.call('SADD', key('running', r.p.j), r.id) end
  elseif r.st == 'wait' then
    advance(r)
  end
end

-- what it still waits for, as it wants it done: used up by settle, and needed again by a later one
local function needs_of(r)
  local needs = {}
  for _, id in ipairs(barrier(r)) do
    local need = get(id)
    local spec = need and need.h == r.id and need.p
    if need and not spec then
      local raw = redis.call('HGET', key('subs', id), r.id)
      spec = raw and cmsgpack.unpack(raw)
    end
    if spec then
      local copy = {i = id}
      for name, value in pairs(spec) do copy[name] = value end
      needs[#needs + 1] = copy
    end
  end
  return #needs > 0 and needs or nil
end

-- a step whose home is of a paused job goes to the best subscriber of another; the home still subscribes
pass_on = function(r)
  if ROOT[kind(r.id)] or not r.h or (r.n or 0) == 0 or not job_paused(r.p.j) then return end
  local next_home = best(r)
  if job_paused(next_home[2].j) then return end
  local name, spec = r.h, r.p
  if r.se then spec.n = needs_of(r) end
  subscriber_put(r, name, spec)
  rehome(r, next_home[1])
end

leave = function(id, name)
  local r = get(id)
  if not r then return end
  local home = r.h
  if not subscriber_remove(r, name) or ROOT[kind(id)] or home ~= name then return end
  if (r.n or 0) > 0 then rehome(r, best(r)[1])
  elseif r.st == 'queued' or r.st == 'run' then r.k = 1
  else drop(r) end
end

drop = function(r)
  land(r)
  local needs = barrier(r)
  forget(r)
  for _, need in ipairs(needs) do leave(need, r.id) end
end

deliver = function(id, names, delivered)
  for _, name in ipairs(names) do
    local w = get(name)
    if w and barrier_remove(w, id) then
      got_set(w, id, delivered)
      if w.st == 'wait' and barrier_size(w) == 0 then advance(w) end
    end
  end
end

local function names_of(r)
  local out = {}
  for _, s in ipairs(subscribers(r)) do out[#out + 1] = s[1] end
  return out
end

-- the step is done: its home paid for it, the others shared it
local function finish(r, delivered)
  local names = {}
  for _, s in ipairs(subscribers(r)) do
    local p = s[2]
    names[#names + 1] = s[1]
    if p.j and s[1] ~= r.h and not p.y and (p.z or 0) > 0 then count(p.j, 'saved_shared', p.z) end
  end
  drop(r)
  deliver(r.id, names, delivered)
end

-- failure, youngest first: a home that leaves last leaves nobody to choose another one from
local function fail_waiters(id, names, err)
  for n = #names, 1, -1 do
    local w = get(names[n])
    if w and barrier_remove(w, id) then fail(w, w.p.a or '', err) end
  end
end

fail = function(r, via, err)
  local k = kind(r.id)
  if k == 'j' then
    local job = r.p.j
    drop(r)
    if job_open(job) then
      redis.call('HSET', key('job', job), 'err', err, 'stop', 1)
      room(job)
    end
    return
  end
  if ROOT[k] then return close_image(string.sub(r.id, 3), 'failed', '{"error":' .. err .. '}', err) end
  local failing, left = {}, false
  for _, s in ipairs(subscribers(r)) do
    if (s[2].a or '') == via then failing[#failing + 1] = s[1] else left = true end
  end
  for _, name in ipairs(failing) do subscriber_remove(r, name) end
  land(r)
  if left then
    afresh(r)
    rehome(r, r.h or best(r)[1])
  else
    drop(r)
  end
  fail_waiters(r.id, failing, err)
end

-- images and jobs
close_image = function(image, state, outcome, err)
  local m, p = get('m:' .. image), get('p:' .. image)
  local own = m or p
  if not own or redis.call('SREM', key('images', own.p.j), image) == 0 then return end
  local job, entry = own.p.j, {image, state, outcome}
  if state == 'failed' or state == 'cancelled' then
    for _, part in ipairs(body_of(own)) do entry[#entry + 1] = part end
  end
  redis.call('RPUSH', key('outcomes', job), cjson.encode(entry))
  count(job, state, 1)
  local waiters = m and names_of(m) or {}
  if m then drop(m) end
  if p and get(p.id) then drop(p) end
  if state == 'done' or state == 'unchanged' or state == 'superseded' then deliver('m:' .. image, waiters, '{}')
  else fail_waiters('m:' .. image, waiters, err or '{"code":"cancelled","message":"' .. state .. '"}') end
  room(job)
end

local function close_job(job, j)
  local state = 'done'
  if j[1] == 'cancelling' then state = 'cancelled'
  elseif j[5] or tonumber(redis.call('HGET', key('job', job), 'c:failed') or '0') > 0 then state = 'failed' end
  redis.call('HSET', key('job', job), 'st', state, 'closed', now)
  redis.call('HDEL', key('job', job), 'pz')
  redis.call('PEXPIRE', key('job', job), R.keep)
  redis.call('PEXPIRE', key('outcomes', job), R.keep)
  redis.call('SREM', key('open'), job)
  redis.call('SREM', key('cancelling'), job)
  redis.call('ZADD', key('unreported'), now, job)
  redis.call('PEXPIRE', key('unreported'), R.keep)
  for _, old in ipairs(redis.call('ZRANGE', key('jobs'), 0, 9)) do
    if redis.call('EXISTS', key('job', old)) == 0 then redis.call('ZREM', key('jobs'), old) end
  end
  if redis.call('SCARD', key('open')) == 0 then redis.call('PEXPIRE', key('jobs'), R.keep) end
end

-- expand the next images when there is room for them; close the job when nothing is left
room = function(job)
  local j = redis.call('HMGET', key('job', job), 'st', 'total', 'cursor', 'stop', 'err', 'win', 'first')
  if j[1] ~= 'running' and j[1] ~= 'cancelling' or get('j:' .. job) then return end
  local open = redis.call('SCARD', key('images', job))
  if j[4] or (j[2] and tonumber(j[3] or '0') >= tonumber(j[2])) then
    if open == 0 then close_job(job, j) end
  elseif j[2] and open * 2 <= tonumber(j[6]) then
    create('j:' .. job, cmsgpack.unpack(j[7]))
  end
end
