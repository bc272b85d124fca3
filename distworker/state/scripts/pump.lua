-- pump(limit): JSON list of {step, {body parts}} admitted: kind by kind, then by priority, then in turn over the
-- ring of (job, slot) pairs.
-- keys     ring ready parked pause caps use fly_control fly_layers due seen slots full
local limit = tonumber(ARGV[3])
local slots, out = 0, {}
local live = redis.call('ZRANGEBYSCORE', key('seen'), '(' .. (now - R.live), '+inf')
for _, owner in ipairs(live) do slots = slots + tonumber(redis.call('HGET', key('slots'), owner) or '0') end
local window = math.max(2, math.ceil(slots * 5 / 4))
local layer_window = window - math.max(1, math.floor(window / 8))
local control = redis.call('SCARD', key('fly_control'))
local layers = redis.call('SCARD', key('fly_layers'))

local function admit(r)
  local k = kind(r.id)
  r.st, r.t = 'queued', second
  if LAYER[k] then
    if (r.p.o or '') ~= '' then hold(r, slot_of(r.p)) end
    redis.call('SADD', key('fly_layers'), r.id)
    layers = layers + 1
  else
    redis.call('SADD', key('fly_control'), r.id)
    control = control + 1
  end
  set_due(r, now + math.min(R.resend * 2 ^ math.min(r.x or 0, 16), R.resend_cap))
  r.x = (r.x or 0) + 1
  out[#out + 1] = {r.id, body_of(r)}
end

-- the first that this version may run; newer workers admit the others
local function first_of(set)
  local from, ids = 0, redis.call('ZRANGE', set, 0, 0)
  while #ids > 0 and from < R.scan do
    for _, id in ipairs(ids) do
      local r = get(id)
      if not foreign(r) then return r end
    end
    from = from + #ids
    ids = redis.call('ZRANGE', set, from, from + 15)
  end
end

-- the rings that have any pair, with their lengths; none that would bring more images while memory is short
local rings = {}
local kinds = redis.call('EXISTS', key('full')) == 1 and {'m', 'u', 'd'} or {'m', 'u', 'd', 'p', 'j'}
for _, k in ipairs(kinds) do
  for priority = 9, 0, -1 do
    local length = redis.call('LLEN', key('ring', k .. priority))
    if length > 0 then rings[#rings + 1] = {k, k .. priority, length} end
  end
end

-- every ring has its share of the looks at pairs that are closed: none can hide another for ever
local looks = math.max(1, math.floor(R.scan / math.max(1, #rings)))
for _, entry in ipairs(rings) do
  local k, name, length = unpack(entry)
  local ring, skipped, looked = key('ring', name), 0, 0
  while length > 0 and #out < limit and skipped < length and looked < looks do
    if layers + control >= window or (LAYER[k] and layers >= layer_window) then break end
    local pair = redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
    local park = parked_as(pair)
    if park then
      redis.call('RPOP', ring)
      redis.call('SADD', key('parked', park), name .. '|' .. pair)
      length, looked = length - 1, looked + 1
    elseif closed(k, string.match(pair, '^[^|]*|(.*)$')) then
      skipped, looked = skipped + 1, looked + 1
    else
      local set = key('ready', name .. '|' .. pair)
      local r = first_of(set)
      if not r then
        skipped, looked = skipped + 1, looked + 1
      else
        skipped = 0
        redis.call('ZREM', set, r.id)
        if redis.call('ZCARD', set) == 0 then
          redis.call('RPOP', ring)
          length = length - 1
        end
        admit(r)
      end
    end
  end
end
flush()
return cjson.encode(out)
