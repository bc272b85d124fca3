-- fail(step, token, error JSON, retry 0/1, delay ms, progressed 0/1): {'retry', 'failed' or 'lost', 1 when
-- drain is to be called}.
-- keys     answer; everything else by _graph.lua
local id, token, err = ARGV[3], ARGV[4], ARGV[5]
local r = held_by(id, token)
if not r then
  local said = answered(token)
  return {(said == 'retry' or said == 'failed') and said or 'lost', 0}
end
local said = 'lost'
if r.k then drop(r) else said = charge(r, err, ARGV[6] == '1', tonumber(ARGV[7]), ARGV[8] == '1') end
flush()
return {said == 'lost' and said or answer(token, said), untold}
