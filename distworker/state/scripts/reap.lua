-- reap(worker_lost error JSON): how many overdue steps went back; 0 for all but one caller each second.
-- keys     reaped due fly_control fly_layers seen slots info cancelling draining walks full; everything else by _graph.lua
-- the time of the last one and its version: an older one may have left steps that only a newer one takes back,
-- and with two that look each second the older could be first for ever
local last, by = string.match(redis.call('GET', key('reaped')) or '-1', '^(%-?%d+) ?(%d*)$')
last, by = tonumber(last), tonumber(by) or 1
local since = now - last
if last >= 0 and since >= 0 and since < R.reap_every and by >= R.v then return 0 end
redis.call('SET', key('reaped'), string.format('%.0f %d', now, R.v))
if last >= 0 and since < 0 then
  -- the clock went back: what is due keeps its distance
  local due = redis.call('ZRANGE', key('due'), 0, -1, 'WITHSCORES')
  for n = 1, #due, 2 do redis.call('ZADD', key('due'), due[n + 1] + since, due[n]) end
end
if last >= 0 and (since < 0 or since > R.gap) then
  -- an outage or a clock jump: leases ran out through nobody's fault
  for _, name in ipairs({'fly_control', 'fly_layers'}) do
    for _, id in ipairs(redis.call('SMEMBERS', key(name))) do
      local r = get(id)
      if r and r.st == 'run' then redis.call('ZADD', key('due'), 'XX', 'GT', now + R.lease, id) end
    end
  end
end
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', key('seen'), '-inf', now - R.live)) do
  redis.call('ZREM', key('seen'), owner)
  redis.call('HDEL', key('slots'), owner)
  redis.call('HDEL', key('info'), owner)
end
local returned = 0
local overdue = redis.call('ZRANGEBYSCORE', key('due'), '-inf', now, 'LIMIT', 0, 5 * R.batch)
for _, id in ipairs(overdue) do
  local r = get(id)
  if returned >= R.batch then break end
  if not r then
    redis.call('ZREM', key('due'), id)
  elseif foreign(r) then
    -- left to a newer worker's reaper
  elseif redis.call('ZSCORE', key('due'), id) then
    if r.k then drop(r)
    elseif r.st == 'run' then charge(r, ARGV[3], true, 0, false)
    else
      land(r)
      advance(r)
    end
    returned = returned + 1
  end
end
local left_over = redis.call('SRANDMEMBER', key('cancelling'))
if left_over and cancel_some(left_over) == 0 then redis.call('SREM', key('cancelling'), left_over) end
drain_some()
-- where INFO is not allowed, or there is no maxmemory, there is no ceiling
local memory = redis.pcall('INFO', 'memory')
memory = type(memory) == 'string' and memory or ''
local ceiling = tonumber(string.match(memory, '\nmaxmemory:(%d+)') or '0') * R.ceiling / 100
if ceiling > 0 then
  local used = tonumber(string.match(memory, '\nused_memory:(%d+)'))
  if used > ceiling then redis.call('SET', key('full'), used, 'PX', R.full) else redis.call('DEL', key('full')) end
end
local walk = redis.call('HKEYS', key('walks'))[1]
if walk then walk_some(walk) end
flush()
return returned
