-- block(step, token, JSON list of specs, error JSON): {'done', 1 when drain is to be called}, or {''} when the token
-- no longer holds.
-- keys     answer; everything else by _graph.lua
local id, token, needs, err = ARGV[3], ARGV[4], cjson.decode(ARGV[5]), ARGV[6]
local r = held_by(id, token)
if not r then return {answered(token), 0} end
r.ro, r.pw = (r.ro or 0) + 1, nil
if r.k then drop(r)
elseif r.ro > R.rounds then fail(r, r.va, err)
else
  land(r)
  if not r.se then settle(r) end
  for _, spec in ipairs(needs) do
    got_set(r, spec.i, nil)
    subscribe(r, spec)
  end
  advance(r)
end
flush()
return {answer(token, 'done'), untold}
