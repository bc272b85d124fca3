-- Shared by the scripts that take a step off its worker, later and charge, and by those that cancel a job.
-- keys     due images; everything else by _graph.lua
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

-- close the next images of a job that is being cancelled; how many are left
local function cancel_some(job)
  local images = redis.call('SRANDMEMBER', key('images', job), R.batch)
  table.sort(images)
  for _, image in ipairs(images) do
    if get('m:' .. image) or get('p:' .. image) then close_image(image, 'cancelled', '{}')
    else redis.call('SREM', key('images', job), image) end
  end
  room(job)
  return redis.call('SCARD', key('images', job))
end
