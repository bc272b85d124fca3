-- Ready steps: a set for each (kind, priority, job, slot), and for each (kind, priority) a ring of the pairs that
-- have any. Pairs of a job or an origin that an operator paused are parked: no pump looks at them twice.
--
-- keys     ready ring parked stopped use pause caps job

local function slot_of(p) return (p.o or '') .. '|' .. (p.c or '') end

-- its ring, its pair
local function place_of(r) return kind(r.id) .. (r.p.p or 5), r.p.j .. '|' .. slot_of(r.p) end

local function ready_add(r)
  local ring, pair = place_of(r)
  local set = key('ready', ring .. '|' .. pair)
  if redis.call('ZCARD', set) == 0 then redis.call('RPUSH', key('ring', ring), pair) end
  redis.call('ZADD', set, r.o, r.id)
end

local function ready_remove(r)
  local ring, pair = place_of(r)
  local set = key('ready', ring .. '|' .. pair)
  redis.call('ZREM', set, r.id)
  if redis.call('ZCARD', set) > 0 then return end
  redis.call('LREM', key('ring', ring), 0, pair)
  for _, name in ipairs({'j|' .. r.p.j, 'o|' .. (r.p.o or '')}) do
    redis.call('SREM', key('parked', name), ring .. '|' .. pair)
  end
end

-- under which name this pair is to be parked, if it is
local function parked_as(pair)
  local job, origin = string.match(pair, '^([^|]*)|([^|]*)')
  if job_paused(job) then return 'j|' .. job end
  if origin ~= '' and redis.call('SISMEMBER', key('stopped'), origin) == 1 then return 'o|' .. origin end
end

-- back into their rings
local function unpark(name)
  local parked = redis.call('SMEMBERS', key('parked', name))
  table.sort(parked)
  for _, entry in ipairs(parked) do
    redis.call('RPUSH', key('ring', string.sub(entry, 1, 2)), string.sub(entry, 4))
  end
  redis.call('DEL', key('parked', name))
end

-- until when that name is paused; a pause that begins later than now is of a clock that went back since
local function pause_ends(name)
  local ends, begins = string.match(redis.call('GET', key('pause', name)) or '0 0', '^(%d+) (%d+)$')
  return tonumber(begins) <= now and tonumber(ends) or 0
end

-- until when a slot is paused for that kind; 0 when it is not
local function paused_until(k, slot)
  local ends = math.max(pause_ends(slot .. '|' .. k), pause_ends(string.match(slot, '^[^|]*')))
  return ends > now and ends or 0
end

-- paused, or its slots are all taken
local function closed(k, slot)
  local origin = string.match(slot, '^[^|]*')
  if paused_until(k, slot) > 0 then return true end
  if origin == '' then return false end
  if redis.call('SISMEMBER', key('stopped'), origin) == 1 then return true end
  if not LAYER[k] then return false end
  local cap = redis.call('HGET', key('caps'), origin)
  return cap and redis.call('SCARD', key('use', slot)) >= tonumber(cap)
end

local function hold(r, slot)
  r.hd = r.hd or {}
  r.hd[#r.hd + 1] = slot
  redis.call('SADD', key('use', slot), r.id)
end
