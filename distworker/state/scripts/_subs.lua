-- The subscribers of a step. One is its home, in the record; the others stand in a hash of their own with their
-- specs, and in a zset in the order in which they would become home: by priority, then by age.
-- The specs of a root step's subscribers mean nothing but their age.
--
-- keys     subs ranks job

-- how many may still be told in this call that a step is over; an image takes longer, with all its needs
local budget = R.tell

local function subscription(r, name)
  local raw = (r.n or 0) > 0 and redis.call('HGET', key('subs', r.id), name)
  return raw and cmsgpack.unpack(raw) or nil
end

local function subscriber_put(r, name, spec)
  if redis.call('HSET', key('subs', r.id), name, cmsgpack.pack(spec)) == 1 then r.n = (r.n or 0) + 1 end
  redis.call('ZADD', key('ranks', r.id), (9 - (spec.p or 5)) * 1e12 + spec.q, name)
end

local function subscriber_remove(r, name)
  if r.h == name then r.h = nil; return true end
  if (r.n or 0) == 0 or redis.call('HDEL', key('subs', r.id), name) == 0 then return false end
  redis.call('ZREM', key('ranks', r.id), name)
  r.n = r.n - 1
  if r.off then r.off = 0 end
  return true
end

-- the first of them, or all: the home, then by rank
local function subscribers(r, count)
  local out = (r.n or 0) > 0 and redis.call('ZRANGE', key('ranks', r.id), 0, (count or 0) - 1) or {}
  if r.h then table.insert(out, 1, r.h) end
  return out
end

-- who becomes home next: the first whose job is not paused, if any
local function best(r)
  local names = redis.call('ZRANGE', key('ranks', r.id), 0, 0)
  local first, from = names[1], 0
  while #names > 0 and from < 5 * R.tell do
    for _, name in ipairs(names) do
      if not job_paused(subscription(r, name).j) then return name end
    end
    from, budget = from + #names, budget - #names / 50
    names = redis.call('ZRANGE', key('ranks', r.id), from, from + 49)
  end
  return first
end
