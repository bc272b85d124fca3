-- release(step, token, delay ms, pause, error JSON or ''): {'done', 1 when drain is to be called}, or {''} when
-- the token no longer holds.
-- keys     answer pause; everything else by _graph.lua
local id, token, delay, pause, err = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local r = held_by(id, token)
if not r then return {answered(token), 0} end
if pause ~= '' and delay > 0 and (r.p.o or '') ~= '' then
  local name = pause == 'origin' and r.p.o or slot_of(r.p) .. '|' .. kind(id)
  local ends = math.max(now + delay, pause_ends(name))
  redis.call('SET', key('pause', name), string.format('%.0f %.0f', ends, now), 'PX', ends - now + 60000)
end
if r.k then drop(r)
elseif err ~= '' and tired(r, delay) then fail(r, r.va, err)
else
  if err ~= '' then r.er = err end
  later(r, delay)
end
flush()
return {answer(token, 'done'), untold}
