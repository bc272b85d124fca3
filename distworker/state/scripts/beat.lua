-- beat(owner, slots, info JSON, JSON list of {step, token, moved, size}): list of the ids lost or cancelled.
-- keys     seen slots info step due; a dropped step's by _graph.lua
local owner, slots, info, running = ARGV[3], ARGV[4], ARGV[5], cjson.decode(ARGV[6])
redis.call('ZADD', key('seen'), now, owner)
redis.call('HSET', key('slots'), owner, slots)
redis.call('HSET', key('info'), owner, info)
local gone = {}
for _, sign in ipairs(running) do
  local r = held_by(sign[1], sign[2])
  if r and not r.k then
    r.mv, r.sz = sign[3], sign[4]
    set_due(r, now + R.lease)
  else
    gone[#gone + 1] = sign[1]
    if r then drop(r) end
  end
end
flush()
return gone
