-- done(step, token, change JSON): {'done', 1 when drain is to be called}, or {''} when the token no longer holds.
-- The change: spawn wait patch counts delivered hints closing total cursor teed no_total, see wire.py.
-- keys     answer hint job; everything else by _graph.lua
local id, token, c = ARGV[3], ARGV[4], cjson.decode(ARGV[5])
local r = held_by(id, token)
if not r then return {answered(token), 0} end
local job, k = r.p.j, kind(id)
land(r)
for name, amount in pairs(c.counts) do count(job, name, amount) end
for _, hint in ipairs(c.hints) do
  local set = key('hint', hint[1])
  redis.call('ZADD', set, next_number(), hint[2])
  redis.call('ZREMRANGEBYRANK', set, 0, -R.hint_max - 1)
  redis.call('PEXPIRE', set, R.hint)
end
if c.closing then close_image(c.closing[1], c.closing[2], c.closing[3])
elseif k == 'm' then close_image(string.sub(id, 3), 'done', '{}') end

if job_state(job) == 'running' then
  for _, spec in ipairs(c.spawn) do
    if not get(spec.i) then create(spec.i, spec) end
  end
  for _, wait in ipairs(c.wait) do
    local w = get(wait[1])
    for _, spec in ipairs(wait[2]) do
      if w and w.st == 'wait' and not barrier_has(w, spec.i) and not got_has(w, spec.i) then subscribe(w, spec) end
    end
  end
  for _, patch in ipairs(c.patch) do
    local s = get(patch[1])
    if patch[1] == 'j:' .. job then
      local first = cmsgpack.unpack(redis.call('HGET', key('job', job), 'first'))
      first.pa = first.pa or {}
      first.pa[#first.pa + 1] = patch[2]
      redis.call('HSET', key('job', job), 'first', cmsgpack.pack(first))
    elseif s and ROOT[kind(s.id)] then
      s.pa = s.pa or {}
      s.pa[#s.pa + 1] = patch[2]
    end
  end
end

local u = c.teed and get(c.teed[1])
if u and kind(u.id) == 'u' and u.st ~= 'queued' and u.st ~= 'run' and u.st ~= 'drain' then
  count(u.p.j, 'uploaded', u.p.z or 0)
  count(u.p.j, 'layers', 1)
  barrier_remove(u, id)
  finish(u, cjson.encode({repository = c.teed[2], credential = u.p.c or ''}))
end
if get(id) then finish(r, c.delivered) end
if k == 'j' and job_state(job) ~= '' then
  if c.total then redis.call('HSET', key('job', job), 'total', c.total) end
  if c.cursor then redis.call('HSET', key('job', job), 'cursor', c.cursor) end
  if redis.call('HEXISTS', key('job', job), 'total') == 0 then
    redis.call('HSET', key('job', job), 'err', c.no_total, 'stop', 1)
  end
  room(job)
end
flush()
return {answer(token, 'done'), untold}
