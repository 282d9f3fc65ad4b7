-- One save, for save.lua and save_many.lua; needs run.lua. It reads and refuses before it writes.
--
-- This is the store's busiest call: it keeps to as few commands as there can be, and takes lines apart by itself,
-- without the table that run.lua would make of them.

local FACTS = '^(%d+)\n(%l+)\n([^\n]+)\n(%d*)\n([^\n]*)\n(%d+)\n(%d+)\n([^\n]+)\n([^\n]*)\n(%d+)\n(%d+)$'

local OVER = {completed = true, failed = true, cancelled = true}

-- Why a save cannot be taken that is no repeat, or nil.
local function refusal(version, before, seen, stored, token, holder, expires, now)
  if version ~= before + 1 then
    return before == 0 and 'no such run is stored' or string.format('version %.0f is stored', before)
  end
  if seen > stored then return string.format('it has seen %.0f records of %.0f', seen, stored) end
  if before == 0 or (token ~= '' and holder == token) then return nil end
  if token ~= '' then return 'the lease is no longer held' end
  return holder ~= '' and tonumber(expires) > now and 'somebody holds it by a live lease' or nil
end

-- When the lease of a run that is driven on runs out: begun anew, or left alone while most of it is left.
local function expiry(ours, expires, ttl, now)
  local left = ours and expires - now or 0
  return left > ttl / 2 and left <= ttl and expires or digits(now + ttl)
end

-- Add the records from `first` on to a log. Gives what is wrong with the log, where it is none.
local function append(log, records, first)
  for from = first, #records, 1000 do -- unpack() gives out at about 8,000 values
    local length = redis.pcall('RPUSH', log, unpack(records, from, math.min(from + 999, #records)))
    if type(length) == 'table' then
      local wrong = tostring(length.err)
      return string.find(wrong, 'WRONGTYPE', 1, true) and wrong or error(wrong)
    end
  end
end

-- What a run whose head is not there has left behind, or who is there instead; nil where there is nothing.
local function remains(run, log)
  if redis.call('EXISTS', run, log) == 0 then return nil end
  if redis.call('EXISTS', run) == 1 then return 'its head is missing' end
  redis.call('UNLINK', log)
end

-- The records from `first` on are new. Gives how many stored ones the writer has not seen, or a refusal.
local function save(run, log, wakes, leases, births, facts, snapshot, new, first, now)
  local lines = redis.pcall('HGET', run, 'head')
  local before, rested, flow, woken, _, attempt, born, _, stored, bytes, holder, expired, writer
  if type(lines) == 'string' then
    before, rested, flow, woken, _, attempt, born, _, stored, bytes, holder, expired, writer = string.match(lines, HEAD)
    if not before then return 'corrupt: ' .. GARBLED end
  elseif lines then
    return 'corrupt: ' .. tostring(lines.err)
  end
  local version, status, workflow, wake, event, created, updated, by, token, ttl, seen = string.match(facts, FACTS)
  local added = #new - first + 1
  stored, bytes, seen = tonumber(stored or 0), bytes or 0, tonumber(seen)
  if writer == by and before == version then return stored - seen - added end
  local reason = refusal(tonumber(version), tonumber(before or 0), seen, stored, token, holder, expired, now)
  if reason then return 'conflict: ' .. reason end
  local wrong = not before and remains(run, log) or append(log, new, first)
  if wrong then return 'corrupt: ' .. wrong end

  local expires = '0'
  if status == 'running' then
    if token ~= '' then expires = expiry(holder == token, expired, tonumber(ttl), now) end
    if added > 0 or not before then attempt = 0 end
  else
    token, attempt = '', 0
  end
  if seen < stored and not OVER[status] and (wake == '' or wake + 0 > updated + 0) then wake = updated end
  for at = first, #new do bytes = bytes + #new[at] end
  redis.call('HSET', run, 'head', version .. '\n' .. status .. '\n' .. workflow .. '\n' .. wake .. '\n' .. event ..
    '\n' .. attempt .. '\n' .. created .. '\n' .. updated .. '\n' .. (stored + added) .. '\n' .. bytes .. '\n' ..
    token .. '\n' .. expires .. '\n' .. by, 'snapshot', snapshot)

  if holder ~= token or expired ~= expires or flow ~= workflow or born ~= created or (token == '' and woken ~= wake) then
    local id = id_of(run)
    local from, entry
    if before then from, entry = stand(flow, woken, holder, expired, id, wakes, leases) end
    move(from, entry, stand(workflow, wake, token, expires, id, wakes, leases))
    move(births, born and born .. '\n' .. id, births, created .. '\n' .. id)
  end
  return stored - seen
end
