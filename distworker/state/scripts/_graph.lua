-- The moves of the work graph: subscriptions, homes, barriers, failure, images, room in a job.
--
-- keys     those of _common.lua and _ready.lua, and: images running outcomes jobs open unreported cancelling
--          fly_control fly_layers due
--
-- A job hash: v st(ate) rec(ord) first (packed spec) made closed total cursor stop err win(dow) c:<counter>
--             pz 1: paused by an operator   w:<origin> open images by destination

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
    if redis.call('SADD', key('images', spec.j), string.sub(id, 3)) == 1 then
      redis.call('HINCRBY', key('job', spec.j), 'w:' .. (spec.o or ''), 1)
    end
  end
  r.h = subscriber
  if not ROOT[k] then
    r.h = subscriber or '*'
    spec.q = next_number()
  end
  advance(r)
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
  local known = r.h == w.id and r.p or subscription(r, w.id)
  if r.st == 'drain' then -- too late for this round: it takes part in what comes after it
    spec.q = next_number()
    return subscriber_put(r, w.id, spec)
  end
  spec.q = known and known.q or next_number()
  if not r.h or r.h == w.id then
    r.k = nil
    rehome(r, w.id, spec)
  else
    subscriber_put(r, w.id, spec)
    if not job_paused(spec.j) then pass_on(r) end
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
      spec = subscription(r, home)
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
    local spec = need and (need.h == r.id and need.p or subscription(need, r.id))
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
  if ROOT[kind(r.id)] or r.st == 'drain' or not r.h or (r.n or 0) == 0 or not job_paused(r.p.j) then return end
  local name, old, spec = best(r), r.h, r.p
  if job_paused(subscription(r, name).j) then return end
  if r.se then spec.n = needs_of(r) end
  subscriber_put(r, old, spec)
  rehome(r, name)
end

leave = function(id, name)
  local r = get(id)
  if not r then return end
  local home = r.h
  if not subscriber_remove(r, name) or ROOT[kind(id)] or home ~= name or r.st == 'drain' then return end
  if (r.n or 0) > 0 then rehome(r, best(r))
  elseif r.st == 'queued' or r.st == 'run' then r.k = 1
  elseif foreign(r) then
    r.k = 1
    set_due(r, now)
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

-- a layer step fails in _ends.lua; here those who wait for an image
local function fail_waiters(id, names, err)
  for n = #names, 1, -1 do
    local w = get(names[n])
    if w and barrier_remove(w, id) then fail(w, w.p.a or '', err) end
  end
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
  if m then redis.call('HINCRBY', key('job', job), 'w:' .. (m.p.o or ''), -1) end
  redis.call('RPUSH', key('outcomes', job), cjson.encode(entry))
  count(job, state, 1)
  local waiters = m and subscribers(m) or {}
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

-- open images that stand still because an operator paused their destination
local function held_up(job)
  local held = 0
  for _, origin in ipairs(redis.call('SMEMBERS', key('stopped'))) do
    held = held + tonumber(redis.call('HGET', key('job', job), 'w:' .. origin) or '0')
  end
  return held
end

-- expand the next images when there is room for them; close the job when nothing is left
room = function(job)
  local j = redis.call('HMGET', key('job', job), 'st', 'total', 'cursor', 'stop', 'err', 'win', 'first')
  if j[1] ~= 'running' and j[1] ~= 'cancelling' or get('j:' .. job) then return end
  local open = redis.call('SCARD', key('images', job))
  if j[4] or (j[2] and tonumber(j[3] or '0') >= tonumber(j[2])) then
    if open == 0 then close_job(job, j) end
  elseif j[2] and open <= R.spread * tonumber(j[6]) and (open - held_up(job)) * 2 <= tonumber(j[6]) then
    create('j:' .. job, cmsgpack.unpack(j[7]))
  end
end
