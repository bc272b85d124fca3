-- free(mark, token): gives a turn back, unless it ran out and somebody else has it by now.
-- keys     vault_turn
local turn = key('vault_turn', ARGV[3])
if redis.call('GET', turn) ~= ARGV[4] then return 0 end
return redis.call('DEL', turn)
