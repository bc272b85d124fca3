-- cancel(job): -1 when no such open job, else how many images are still to be closed (call again until 0).
-- keys     job images; everything else by _graph.lua
local job = ARGV[3]
if not job_open(job) then return -1 end
redis.call('HSET', key('job', job), 'st', 'cancelling', 'stop', 1)
local j = get('j:' .. job)
if j then drop(j) end
local images = redis.call('SRANDMEMBER', key('images', job), R.batch)
table.sort(images)
for _, image in ipairs(images) do
  if get('m:' .. image) or get('p:' .. image) then close_image(image, 'cancelled', '{}')
  else redis.call('SREM', key('images', job), image) end
end
room(job)
flush()
return redis.call('SCARD', key('images', job))
