-- pump(limit): JSON list of {step, {body parts}} admitted: rank by rank, in turn over the ring of (job, slot) pairs.
-- keys     ring ready pause caps use fly_control fly_layers due seen slots
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
  r.st = 'queued'
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

for _, k in ipairs({'m', 'u', 'd', 'p', 'j'}) do
  local ring = key('ring', k)
  local length, skipped, scanned = redis.call('LLEN', ring), 0, 0
  while length > 0 and #out < limit and skipped < length and scanned < R.scan do
    if layers + control >= window or (LAYER[k] and layers >= layer_window) then break end
    local pair = redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
    scanned = scanned + 1
    if closed(k, string.match(pair, '^[^|]*|(.*)$')) then
      skipped = skipped + 1
    else
      skipped = 0
      local set = key('ready', k .. '|' .. pair)
      local r = get(redis.call('ZPOPMIN', set)[1])
      if redis.call('ZCARD', set) == 0 then
        redis.call('RPOP', ring)
        length = length - 1
      end
      admit(r)
    end
  end
end
flush()
return cjson.encode(out)
