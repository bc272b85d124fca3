-- Shared by the scripts that take a step off its worker, later and charge, and by those that cancel a job.
-- keys     due images walks; everything else by _graph.lua
local function later(r, delay)
  land(r)
  if delay > 0 then
    r.st, r.t = 'delay', second
    set_due(r, now + delay)
  else
    advance(r)
  end
end

local function charge(r, err, retry, delay, progressed)
  r.ru = (r.ru or 0) + 1
  if not progressed then r.at = (r.at or 0) + 1 end
  r.er, r.pw = err, nil
  if retry and (r.at or 0) < R.attempts and r.ru < R.runs then
    later(r, delay)
    return 'retry'
  end
  fail(r, r.va, err)
  return 'failed'
end

-- close the next images of a job that is being cancelled; how many are left, and whether those are not for us
local function cancel_some(job)
  local images, newer = redis.call('SRANDMEMBER', key('images', job), R.batch), 0
  table.sort(images)
  for _, image in ipairs(images) do
    local m = get('m:' .. image)
    local p = get('p:' .. image)
    if budget <= 0 then break end
    if (m and foreign(m)) or (p and foreign(p)) then newer = newer + 1
    elseif m or p then
      budget = budget - 1 - (m and barrier_size(m) or 0) / 2
      close_image(image, 'cancelled', '{}')
    else redis.call('SREM', key('images', job), image) end
  end
  room(job)
  return redis.call('SCARD', key('images', job)), newer == #images
end

-- given back with an error once more: has it done nothing else for too long?
local function tired(r, delay)
  local w = r.pw or {0, now, now}
  local used = w[1] + math.max(0, math.min(now, w[3]) - w[2])
  r.pw = {used, now, now + delay + R.idle}
  return used >= R.patience
end

-- the layer steps of a few images of a job paused or resumed: none stays with a paused job that another wants
local walked = {}
local function pass_on_below(id)
  local r = not walked[id] and get(id)
  if not r or ROOT[kind(id)] then return end
  walked[id] = true
  pass_on(r)
  for _, need in ipairs(barrier(r)) do pass_on_below(need) end
end

local function walk_some(job)
  local page = redis.call('SSCAN', key('images', job), redis.call('HGET', key('walks'), job) or '0', 'COUNT', 20)
  table.sort(page[2])
  for _, image in ipairs(page[2]) do
    local m = get('m:' .. image)
    for _, id in ipairs(m and barrier(m) or {}) do pass_on_below(id) end
  end
  if page[1] == '0' then redis.call('HDEL', key('walks'), job)
  else redis.call('HSET', key('walks'), job, page[1]) end
  return page[1] == '0' and 0 or 1
end
