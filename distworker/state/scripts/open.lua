-- open(job, record JSON, first spec JSON, window, paused 0/1): 1, or 0 when the job is known.
-- keys     job jobs open; the expand step by _graph.lua
local job, record, first, window = ARGV[3], ARGV[4], cjson.decode(ARGV[5]), ARGV[6]
if redis.call('EXISTS', key('job', job)) == 1 then return 0 end
local id = first.i
first.i = nil
redis.call('HSET', key('job', job), 'v', R.v, 'st', 'running', 'rec', record, 'first', cmsgpack.pack(first),
  'made', now, 'cursor', 0, 'win', window)
if ARGV[7] == '1' then redis.call('HSET', key('job', job), 'pz', 1) end
redis.call('ZADD', key('jobs'), next_number(), job)
redis.call('PERSIST', key('jobs'))
redis.call('SADD', key('open'), job)
create(id, first)
flush()
return 1
