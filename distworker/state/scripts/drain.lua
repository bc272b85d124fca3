-- drain(): tells more of those who wait for a step that is over: 1 when there are more still (call again), else 0.
-- Who calls may die in between: reap goes on with it.
-- keys     draining; everything else by _graph.lua
local left = drain_some()
flush()
return left
