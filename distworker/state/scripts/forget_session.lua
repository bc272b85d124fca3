-- forget_session(step, token): the session of that claim is over; a step without one leaves the list.
-- keys     session, sessions
local kept = key('session', ARGV[3])
local gone = redis.call('HDEL', kept, ARGV[4])
if redis.call('EXISTS', kept) == 0 then redis.call('ZREM', key('sessions'), ARGV[3]) end
return gone
