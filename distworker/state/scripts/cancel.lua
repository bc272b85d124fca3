-- cancel(job): -1 when no such open job, else how many images are still to be closed (call again until 0).
-- Who calls may die in between: reap goes on with it.
-- keys     job cancelling; everything else by _graph.lua
local job = ARGV[3]
if not job_open(job) then return -1 end
redis.call('HSET', key('job', job), 'st', 'cancelling', 'stop', 1)
redis.call('SADD', key('cancelling'), job)
local j = get('j:' .. job)
if j and not foreign(j) then drop(j) end
local left, newer = cancel_some(job)
flush()
return newer and 0 or left
