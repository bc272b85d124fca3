-- Shared by the scripts that take a step off its worker: later, charge.
-- keys     due; everything else by _graph.lua
local function later(r, delay)
  land(r)
  if delay > 0 then
    r.st = 'delay'
    set_due(r, now + delay)
  else
    advance(r)
  end
end

local function charge(r, err, retry, delay, progressed)
  r.ru = (r.ru or 0) + 1
  if not progressed then r.at = (r.at or 0) + 1 end
  if retry and (r.at or 0) < R.attempts and r.ru < R.runs then
    later(r, delay)
    return 'retry'
  end
  fail(r, r.va, err)
  return 'failed'
end
