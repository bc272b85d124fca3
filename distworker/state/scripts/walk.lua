-- walk(job): goes on with a pause or a resumption: 1 when there is more to do (call again), else 0.
-- Who calls may die in between: reap goes on with it.
-- keys     walks; everything else by _graph.lua
local left = redis.call('HEXISTS', key('walks'), ARGV[3]) == 1 and walk_some(ARGV[3]) or 0
flush()
return left
