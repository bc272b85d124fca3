-- Shared head of every script: arguments, time, step records, barriers, ready rings.
-- ARGV[1] key prefix, ARGV[2] rules as JSON (times in ms), the operation's own arguments from ARGV[3] on.
--
-- keys     step subs ranks barrier got due answer seq job
--
-- A step record is a packed table; fields that hold their default are absent:
--   st state: wait ready queued run delay drain p spec of the home (below)     h home subscriber ('*': nobody)
--   n  count of the other subscribers        r barrier (list)               g got: need -> delivered JSON
--   se 1: the spec's needs are subscribed    o age among ready steps        x unclaimed messages sent
--   at charged attempts   ru failed runs     ro block rounds                k 1: nobody wants it any more
--   tk token   ow owner   va via claimed     hd slots held                  te upload fed by this download
--   t  second in which it came into its state                               er its last error (JSON)
--   pw patience used up, by being given back with an error: {ms, last given back, until when waiting counts}
--   mv moved   sz size    pa patches (list of JSON objects merged into the body, root steps only)
-- A spec: j job  b body JSON  p priority  o origin  c credential  a via  z body size  v body version
--         y 1: its bytes are counted already
--         n needs (specs with their id in i)  q age of the subscription
-- Publish steps keep barrier and got in keys of their own: an image may have thousands of layers.

local P, R = ARGV[1], cjson.decode(ARGV[2])
local function key(name, id) return P .. KEY[name] .. (id or '') end
local T = redis.call('TIME')
local now = R.clock or T[1] * 1000 + math.floor(T[2] / 1000)

local second = math.floor(now / 1000)

local ROOT = {m = true, p = true, j = true}
local LAYER = {u = true, d = true}
local function kind(id) return string.sub(id, 1, 1) end

local seq
local function next_number()
  seq = (seq or tonumber(redis.call('GET', key('seq')) or '0')) + 1
  return seq
end

-- A download and its upload name each other by the same long digest: where it is the record's own it is kept as
-- one character.
local OWN = '\1'
local function swap(text, old, new)
  local from, to = string.find(text, old, 1, true)
  return from and string.sub(text, 1, from - 1) .. new .. string.sub(text, to + 1) or text
end
local function swap_own(r, id, hide)
  local own = LAYER[kind(id)] and string.match(id, 'sha256:%x+')
  if not own then return end
  local old, new = hide and own or OWN, hide and OWN or own
  if r.h then r.h = swap(r.h, old, new) end
  for n, need in ipairs(r.r or {}) do r.r[n] = swap(need, old, new) end
end

-- records: read once, written back by flush(); after that they are of no use any more
local records, packed = {}, {}
local function get(id)
  local r = records[id]
  if r == nil then
    local raw = redis.call('GET', key('step', id))
    r = raw and cmsgpack.unpack(raw) or false
    if r then
      swap_own(r, id, false)
      r.id, packed[id] = id, raw
    end
    records[id] = r
  end
  return r or nil
end

-- written by a newer version: it is neither run, given back nor dropped here. What is rewritten of it (who
-- subscribes, what it waits for) keeps the fields that this version does not know.
local function foreign(r) return (r.v or 1) > R.v end

local function forget(r)
  records[r.id], packed[r.id] = false, nil
  redis.call('DEL', key('step', r.id))
  if (r.n or 0) > 0 then redis.call('DEL', key('subs', r.id), key('ranks', r.id)) end
  if kind(r.id) == 'm' then redis.call('DEL', key('barrier', r.id), key('got', r.id)) end
end

local function same(a, b)
  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
  for name, value in pairs(a) do if not same(value, b[name]) then return false end end
  for name in pairs(b) do if a[name] == nil then return false end end
  return true
end

-- packing again may change the order of the fields: no reason to write a record that is not ours
local function unchanged(r, old) return old and foreign(r) and same(r, cmsgpack.unpack(old)) end

local function flush()
  for id, r in pairs(records) do
    if r then
      r.id = nil
      swap_own(r, id, true)
      local raw = cmsgpack.pack(r)
      if raw ~= packed[id] and not unchanged(r, packed[id]) then redis.call('SET', key('step', id), raw) end
    end
  end
  if seq then redis.call('SET', key('seq'), seq) end
end

-- barriers
local function barrier(r)
  local all = kind(r.id) == 'm' and redis.call('SMEMBERS', key('barrier', r.id)) or {unpack(r.r or {})}
  table.sort(all)
  return all
end

local function barrier_size(r)
  if kind(r.id) == 'm' then return redis.call('SCARD', key('barrier', r.id)) end
  return r.r and #r.r or 0
end

local function barrier_has(r, id)
  if kind(r.id) == 'm' then return redis.call('SISMEMBER', key('barrier', r.id), id) == 1 end
  for _, x in ipairs(r.r or {}) do if x == id then return true end end
  return false
end

local function barrier_add(r, id)
  if kind(r.id) == 'm' then redis.call('SADD', key('barrier', r.id), id)
  elseif not barrier_has(r, id) then
    r.r = r.r or {}
    r.r[#r.r + 1] = id
  end
end

local function barrier_remove(r, id)
  if kind(r.id) == 'm' then return redis.call('SREM', key('barrier', r.id), id) == 1 end
  for n, x in ipairs(r.r or {}) do
    if x == id then
      table.remove(r.r, n)
      if #r.r == 0 then r.r = nil end
      return true
    end
  end
  return false
end

local function got_has(r, id)
  if kind(r.id) == 'm' then return redis.call('HEXISTS', key('got', r.id), id) == 1 end
  return r.g ~= nil and r.g[id] ~= nil
end

local function got_set(r, id, delivered)
  if kind(r.id) == 'm' then
    if delivered then redis.call('HSET', key('got', r.id), id, delivered)
    else redis.call('HDEL', key('got', r.id), id) end
  else
    r.g = r.g or {}
    r.g[id] = delivered
    if next(r.g) == nil then r.g = nil end
  end
end

local function got_all(r)
  local out = {}
  if kind(r.id) == 'm' then
    local flat = redis.call('HGETALL', key('got', r.id))
    for n = 1, #flat, 2 do out[#out + 1] = {flat[n], flat[n + 1]} end
  else
    for id, delivered in pairs(r.g or {}) do out[#out + 1] = {id, delivered} end
  end
  return out
end

-- the body as the client puts it together: the spec's, then the patches
local function body_of(r)
  local parts = {r.p.b}
  for _, patch in ipairs(r.p.pa or {}) do parts[#parts + 1] = patch end
  for _, patch in ipairs(r.pa or {}) do parts[#parts + 1] = patch end
  return parts
end

local function set_due(r, deadline) redis.call('ZADD', key('due'), deadline, r.id) end

local function job_paused(job) return redis.call('HEXISTS', key('job', job), 'pz') == 1 end

-- the running step, if this token still holds it
local function held_by(id, token)
  local r = get(id)
  if r and r.st == 'run' and token ~= '' and r.tk == token then return r end
end

local function answer(token, text)
  redis.call('SET', key('answer', token), text, 'PX', R.answer)
  return text
end

local function answered(token) return redis.call('GET', key('answer', token)) or '' end
