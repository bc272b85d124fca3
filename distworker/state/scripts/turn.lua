-- turn(verb, name, …): who does a piece of upkeep just now, what came of the last time, when it is due again.
--   take  name token owner lease every   'taken'; 'busy' while another's turn holds; 'early' before it is due
--   keep  name token lease               1 while the turn is still ours
--   end   name token again over swept error   1, or 0 when the turn was lost: then nothing is recorded
--   ring  name slack pause every         1 for the one caller who is to ring for it now
-- Times are ms. `over` 0: there is more to do, what was swept is added to the next round's.
-- keys     turn
local verb, at = ARGV[3], key('turn', ARGV[4])
local function number(field) return tonumber(redis.call('HGET', at, field) or '0') end
local function busy() return number('until') > now and number('until') - now < 86400000 end

-- a date further away than the whole interval is of a clock that went back since
local function early(every)
  local due = number('due')
  return due > now and due - now <= every
end

if verb == 'take' then
  local token, owner, lease, every = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
  if busy() then return 'busy' end
  if early(every) then return 'early' end
  if redis.call('HEXISTS', at, 'began') == 0 then redis.call('HSET', at, 'began', now) end
  redis.call('HSET', at, 'token', token, 'owner', owner, 'until', now + lease)
  return 'taken'
end

if verb == 'ring' then
  local slack, pause, every = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
  local late, rung = now - number('due'), number('rung')
  if busy() or early(every) or (late >= 0 and late < slack) then return 0 end
  if rung <= now and now - rung < pause then return 0 end
  redis.call('HSET', at, 'rung', now)
  return 1
end

if redis.call('HGET', at, 'token') ~= ARGV[5] then return 0 end
if verb == 'keep' then
  redis.call('HSET', at, 'until', now + tonumber(ARGV[6]))
  return 1
end

local again, over, swept, trouble = tonumber(ARGV[6]), ARGV[7] == '1', cjson.decode(ARGV[8]), ARGV[9]
local sum = cjson.decode(redis.call('HGET', at, 'sum') or '{}')
for name, amount in pairs(swept) do sum[name] = (sum[name] or 0) + amount end
redis.call('HSET', at, 'due', now + again, 'error', trouble)
redis.call('HDEL', at, 'token', 'owner', 'until', 'rung')
if over then
  redis.call('HSET', at, 'ended', now, 'took', now - number('began'), 'swept', cjson.encode(sum))
  redis.call('HDEL', at, 'began', 'sum')
else
  redis.call('HSET', at, 'sum', cjson.encode(sum))
end
return 1
