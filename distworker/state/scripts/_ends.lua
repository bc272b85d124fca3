-- A step is over, done or failed, and those who wait for it are told: so many in a call, see `budget`. With more
-- of them it stays 'drain' until somebody calls again: who ended it does, or the reaper.
--
-- keys     subs ranks draining; everything else by _graph.lua
--
-- A draining record: dr delivered JSON, when it is done
--                    df {via, error JSON, number}, when it failed: of those who wanted it that way and are older
--                    off how many of the others were passed over

-- 1 when this call left somebody untold
local untold = 0

-- everybody was told who is to be told
local function over(r)
  redis.call('SREM', key('draining'), r.id)
  if r.dr or (not r.h and (r.n or 0) == 0) then return drop(r) end
  r.df, r.off, r.st = nil, nil, 'wait'
  afresh(r)
  rehome(r, r.h or best(r))
end

local function tell_one(r, name, spec)
  budget = budget - 1
  if r.dr then
    if spec.j and not spec.y and (spec.z or 0) > 0 then count(spec.j, 'saved_shared', spec.z) end
    return deliver(r.id, {name}, r.dr)
  end
  local w = get(name)
  if w and barrier_remove(w, r.id) then
    budget = budget - barrier_size(w) / 2
    fail(w, w.p.a or '', r.df[2])
  end
end

-- the youngest fail first: a home that leaves last leaves nobody to choose another one from
local function tell(r)
  local range = r.dr and 'ZRANGE' or 'ZREVRANGE'
  local newer = false
  if (r.n or 0) == 0 then return over(r) end
  while budget > 0 do
    local off, page = r.off or 0, {}
    local names = redis.call(range, key('ranks', r.id), off, off + math.ceil(math.min(budget, 50)) - 1)
    if #names == 0 then
      if not newer then return over(r) end
      break
    end
    for _, name in ipairs(names) do
      local spec, w = subscription(r, name), get(name)
      if r.df and w and foreign(w) then
        newer, off = true, off + 1
      elseif r.df and ((spec.a or '') ~= r.df[1] or spec.q > r.df[3]) then
        off = off + 1
      else
        subscriber_remove(r, name)
        page[#page + 1] = {name, spec}
      end
    end
    r.off = off
    for _, s in ipairs(page) do tell_one(r, s[1], s[2]) end
  end
  if newer then r.off = nil else untold = 1 end
  redis.call('SADD', key('draining'), r.id)
end

local function drain(r)
  r.st, r.t, r.off = 'drain', second, 0
  tell(r)
end

-- the step is done: its home paid for it, the others shared it
local function finish(r, delivered)
  local home, needs = r.h, barrier(r)
  land(r)
  for _, need in ipairs(needs) do
    barrier_remove(r, need)
    leave(need, r.id)
  end
  r.h, r.dr = nil, delivered
  if home then deliver(r.id, {home}, delivered) end
  drain(r)
end

fail = function(r, via, err)
  local k = kind(r.id)
  if r.st == 'drain' then return end
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
  land(r)
  if r.h and (r.p.a or '') == via then
    subscriber_put(r, r.h, r.p)
    r.h = nil
  end
  r.df = {via, err, next_number()}
  drain(r)
end

-- go on with what is left over; 1 when somebody was told and more are left
local function drain_some()
  local all = redis.call('SMEMBERS', key('draining'))
  table.sort(all)
  local before = budget
  for _, id in ipairs(all) do
    local r = get(id)
    if not r then redis.call('SREM', key('draining'), id)
    elseif budget > 0 and not foreign(r) then tell(r) end
  end
  return budget < before and redis.call('SCARD', key('draining')) > 0 and 1 or 0
end
