-- lane(begin, lane, image): the image's number.  lane(published, lane, sequence, note JSON): {newest, its note}.
-- keys     lane lane_image
local verb, lane, what = ARGV[3], key('lane', ARGV[4]), ARGV[5]
if verb == 'begin' then
  local image = key('lane_image', ARGV[4] .. '|' .. what)
  local number = redis.call('GET', image)
  if not number then number = redis.call('HINCRBY', lane, 'number', 1) end
  redis.call('SET', image, number, 'PX', R.keep)
  redis.call('PEXPIRE', lane, R.keep)
  return tonumber(number)
end
local known = redis.call('HMGET', lane, 'newest', 'note', 'number')
local newest, note, sequence = tonumber(known[1] or '0'), known[2] or '{}', tonumber(what)
if sequence >= newest then newest, note = sequence, ARGV[6] end
redis.call('HSET', lane, 'newest', newest, 'note', note, 'number', math.max(tonumber(known[3] or '0'), sequence))
redis.call('PEXPIRE', lane, R.keep)
return {newest, note}
