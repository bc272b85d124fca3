-- overdue(limit): JSON list of {step, job, state, since s, deadline ms or -1, owner, {why, …}, error JSON, {body parts}}.
-- keys     due draining ring ready parked stopped open full seen; everything else by _graph.lua
local limit, each = tonumber(ARGV[3]), 10
local rows, listed = {}, {}

local function add(r, deadline, ...)
  if #rows >= limit or listed[r.id] then return end
  listed[r.id] = r
  rows[#rows + 1] = {r.id, r.p.j, r.st, r.t or 0, deadline or -1, r.ow or '', {...}, r.er or '', body_of(r)}
end

local function timed(id, deadline)
  local r = get(id)
  if not r then return end
  if foreign(r) and deadline <= now then add(r, deadline, 'newer')
  elseif r.st == 'delay' then add(r, deadline, 'delayed')
  elseif r.st == 'run' and deadline <= now then add(r, deadline, 'lease')
  elseif r.st == 'queued' and (deadline <= now or (r.x or 0) > 1) then add(r, deadline, 'unclaimed', r.x or 1) end
end

-- the first steps of a pair
local function held(entry, ...)
  for _, id in ipairs(redis.call('ZRANGE', key('ready', entry), 0, each - 1)) do
    local r = get(id)
    if r then add(r, nil, ...) end
  end
end

local function ring_held(k, name, full, nobody)
  for _, pair in ipairs(redis.call('LRANGE', key('ring', name), 0, R.scan - 1)) do
    local slot = string.match(pair, '^[^|]*|(.*)$')
    local origin = string.match(slot, '^[^|]*')
    local park, ends = parked_as(pair), paused_until(k, slot)
    if park then held(name .. '|' .. pair, string.sub(park, 1, 1), string.sub(park, 3))
    elseif full and (k == 'p' or k == 'j') then held(name .. '|' .. pair, 'memory')
    elseif ends > 0 then held(name .. '|' .. pair, 'paused', origin, ends)
    elseif nobody then held(name .. '|' .. pair, 'nobody') end
  end
end

local function parked(mark, names)
  table.sort(names)
  for _, name in ipairs(names) do
    local entries = redis.call('SMEMBERS', key('parked', mark .. '|' .. name))
    table.sort(entries)
    for _, entry in ipairs(entries) do held(entry, mark, name) end
  end
end

local due = redis.call('ZRANGE', key('due'), 0, 5 * R.batch - 1, 'WITHSCORES')
for n = 1, #due, 2 do timed(due[n], tonumber(due[n + 1])) end
for _, id in ipairs(redis.call('SMEMBERS', key('draining'))) do
  local r = get(id)
  if r then add(r, nil, 'drain') end
end
parked('j', redis.call('SMEMBERS', key('open')))
parked('o', redis.call('SMEMBERS', key('stopped')))
local full = redis.call('EXISTS', key('full')) == 1
local nobody = redis.call('ZCOUNT', key('seen'), '(' .. (now - R.live), '+inf') == 0
for _, k in ipairs({'m', 'u', 'd', 'p', 'j'}) do
  for priority = 9, 0, -1 do ring_held(k, k .. priority, full, nobody) end
end

-- who waits for these
local n = 1
while rows[n] and #rows < limit do
  for count, name in ipairs(subscribers(get(rows[n][1]), each)) do
    local w = count <= each and get(name)
    if w and w.st == 'wait' then add(w, nil, 'waits', rows[n][1]) end
  end
  n = n + 1
end
return cjson.encode(rows)
