-- pause(what, name): an operator pauses or resumes: what is 'job', '-job', 'origin' or '-origin'.
-- 1, or 0 when there is no such open job, or no such pause.
-- keys     job walks stopped open; an expand step by _graph.lua
local what, name = ARGV[3], ARGV[4]
if what == 'origin' then
  redis.call('SADD', key('stopped'), name)
  -- what stands still no longer counts in the windows of its jobs
  local jobs = redis.call('SMEMBERS', key('open'))
  table.sort(jobs)
  for _, job in ipairs(jobs) do room(job) end
  flush()
elseif what == '-origin' then
  if redis.call('SREM', key('stopped'), name) == 0 then return 0 end
  unpark('o|' .. name)
elseif not job_open(name) then
  return 0
else
  if what == 'job' then
    redis.call('HSET', key('job', name), 'pz', 1)
  else
    redis.call('HDEL', key('job', name), 'pz')
    unpark('j|' .. name)
  end
  redis.call('HSET', key('walks'), name, 0)
end
return 1
