-- claim(step, token, owner): JSON {refused = reason}, or what a Claim is made of.
-- keys     step due running use caps pause job; a cancelled image's by _graph.lua
local id, token, owner = ARGV[3], ARGV[4], ARGV[5]
local r = get(id)

local function refuse(reason)
  flush()
  return cjson.encode({refused = reason})
end

local function tee(r)
  if kind(id) ~= 'd' or (r.n or 0) > 0 or not r.h or kind(r.h) ~= 'u' then return end
  local u = get(r.h)
  if not u or u.st ~= 'wait' or barrier_size(u) ~= 1 or closed('u', slot_of(u.p)) then return end
  r.te = u.id
  if (u.p.o or '') ~= '' then hold(r, slot_of(u.p)) end
end

local function claimed(r)
  local out = {job = r.p.j, body = body_of(r), attempt = (r.at or 0) + 1, got = got_all(r)}
  if kind(id) == 'j' then
    local j = redis.call('HMGET', key('job', r.p.j), 'cursor', 'total')
    out.cursor, out.total = tonumber(j[1] or '0'), tonumber(j[2] or '-1')
  end
  local u = r.te and get(r.te)
  if u then out.tee = {u.id, body_of(u)} end
  flush()
  return cjson.encode(out)
end

if not r then return refuse('unknown') end
if r.st == 'run' and r.tk == token and not r.k then return claimed(r) end
if r.st ~= 'queued' then return refuse('superseded') end
if (r.p.v or 1) > R.v or (r.v or 1) > R.v then
  -- its message is used up, by nobody's fault: the next one goes out soon, and is not counted
  set_due(r, now + R.newer)
  r.x = (r.x or 0) > 1 and r.x - 1 or nil
  return refuse('newer')
end
local state = job_state(r.p.j)
if r.k or (ROOT[kind(id)] and state ~= 'running' and (state ~= 'cancelling' or kind(id) == 'j')) then
  drop(r)
  return refuse('cancelled')
end
if ROOT[kind(id)] and state == 'cancelling' then
  close_image(string.sub(id, 3), 'cancelled', '{}')
  return refuse('cancelled')
end
r.st, r.t, r.tk, r.ow, r.x, r.va = 'run', second, token, owner, nil, r.p.a or ''
set_due(r, now + R.lease)
if state ~= '' then redis.call('SADD', key('running', r.p.j), id) end
tee(r)
return claimed(r)
