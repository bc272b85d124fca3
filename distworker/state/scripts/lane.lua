-- lane(begin, lane, image): the image's number: the server's clock in ms, or one more than the last one, whatever is
-- higher. So no number is below those that were given before Redis lost everything.
-- lane(busy, lane): 1 when a number newer than the newest publish was given.
-- lane(published, lane, sequence, note JSON): {newest, its note}.
-- keys     lane lane_image
local verb, lane, what = ARGV[3], key('lane', ARGV[4]), ARGV[5]
if verb == 'begin' then
  local image = key('lane_image', ARGV[4] .. '|' .. what)
  local number = redis.call('GET', image)
  if not number then
    number = string.format('%.0f', math.max(tonumber(redis.call('HGET', lane, 'number') or '0') + 1, now))
    redis.call('HSET', lane, 'number', number)
  end
  redis.call('SET', image, number, 'PX', R.keep)
  redis.call('PEXPIRE', lane, R.keep)
  return tonumber(number)
end
local known = redis.call('HMGET', lane, 'newest', 'note', 'number')
if verb == 'busy' then return tonumber(known[3] or '0') > tonumber(known[1] or '0') and 1 or 0 end
local newest, note, sequence = tonumber(known[1] or '0'), known[2] or '{}', tonumber(what)
if sequence >= newest then newest, note = sequence, ARGV[6] end
redis.call('HSET', lane, 'newest', newest, 'note', note, 'number', math.max(tonumber(known[3] or '0'), sequence))
redis.call('PEXPIRE', lane, R.keep)
return {newest, note}
