-- job(job): JSON {fields, {step, owner, moved, size, {body parts}}..., open images}, or '' when unknown.
-- keys     job running images step
local job = ARGV[3]
local flat = redis.call('HGETALL', key('job', job))
if #flat == 0 then return '' end
local fields, running = {}, {}
for n = 1, #flat, 2 do if flat[n] ~= 'first' then fields[flat[n]] = flat[n + 1] end end
for _, id in ipairs(redis.call('SMEMBERS', key('running', job))) do
  local r = get(id)
  if r then running[#running + 1] = {id, r.ow or '', r.mv or 0, r.sz or 0, body_of(r)} end
end
return cjson.encode({fields, running, redis.call('SCARD', key('images', job))})
