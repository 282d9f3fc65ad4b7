-- One save, for save.lua and save_many.lua; needs run.lua. It reads and refuses before it writes.

local FACTS = '^(%d+)\n(%l+)\n([^\n]+)\n(%d*)\n([^\n]*)\n(%d+)\n(%d+)\n([^\n]+)\n([^\n]*)\n(%d+)\n(%d+)$'

-- Why the save cannot be taken, or nil.
local function refusal(head, stored, version, seen, token, now)
  if tonumber(version) ~= (head and head.version or 0) + 1 then
    return head and string.format('version %s is stored', head.version) or 'no such run is stored'
  end
  if seen > stored then return string.format('it has seen %.0f records of %.0f', seen, stored) end
  if not head or (token ~= '' and head.token == token) then return nil end
  if token ~= '' then return 'the lease is no longer held' end
  return head.token ~= '' and tonumber(head.expires) > now and 'somebody holds it by a live lease' or nil
end

-- When the lease of a run that is driven on runs out: begun anew, or left alone while most of it is left.
local function expiry(head, token, ttl, now)
  if head and head.token == token then
    local left = head.expires - now
    if left > ttl / 2 and left <= ttl then return head.expires end
  end
  return digits(now + ttl)
end

-- unpack() gives out at about 8,000 values.
local function append(log, records, first)
  for from = first, #records, 1000 do
    redis.call('RPUSH', log, unpack(records, from, math.min(from + 999, #records)))
  end
end

-- The records from `first` on are new. Gives how many stored ones the writer has not seen, or a refusal.
local function save(run, log, wakes, leases, births, facts, snapshot, new, first, now)
  local head, wrong = read(run)
  if head then wrong = damage(head, log) end
  if wrong then return 'corrupt: ' .. wrong end
  local version, status, workflow, wake, event, created, updated, writer, token, ttl, seen = string.match(facts, FACTS)
  local added, stored, bytes = #new - first + 1, head and tonumber(head.records) or 0, head and head.bytes or 0
  seen = tonumber(seen)
  if head and head.writer == writer and head.version == version then return stored - seen - added end
  local reason = refusal(head, stored, version, seen, token, now)
  if reason then return 'conflict: ' .. reason end

  local running, attempt, expires = status == 'running', 0, '0'
  if not running then
    if seen < stored and (status == 'suspended' or status == 'waiting') and (wake == '' or wake + 0 > updated + 0) then
      wake = updated
    end
    token = ''
  else
    if token ~= '' then expires = expiry(head, token, tonumber(ttl), now) end
    if head and added == 0 then attempt = head.attempt end
  end
  if not head then redis.call('UNLINK', log) end -- what a run whose head was lost has left behind
  for at = first, #new do bytes = bytes + #new[at] end
  if added == 1 then
    redis.call('RPUSH', log, new[first])
  else
    append(log, new, first)
  end
  redis.call('HSET', run, 'head', version .. '\n' .. status .. '\n' .. workflow .. '\n' .. wake .. '\n' .. event ..
    '\n' .. attempt .. '\n' .. created .. '\n' .. updated .. '\n' .. (stored + added) .. '\n' .. bytes .. '\n' ..
    token .. '\n' .. expires .. '\n' .. writer, 'snapshot', snapshot)

  if head and head.token == token and head.workflow == workflow and head.created == created
     and head.expires == expires and (token ~= '' or head.wake == wake) then
    return stored - seen -- it stands where it stood
  end
  local id, from, before = id_of(run), nil, nil
  if head then from, before = stand(head, id, wakes, leases) end
  move(from, before, stand({token = token, expires = expires, wake = wake, workflow = workflow}, id, wakes, leases))
  move(births, head and head.created .. '\n' .. id, births, created .. '\n' .. id)
  return stored - seen
end
