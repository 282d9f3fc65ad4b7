-- One save, for save.lua and save_many.lua; needs run.lua. It reads and refuses before it writes.

local FACTS = '^(%d+)\n(%d+)\n(%a+)\n(%d*)\n(%d+)\n(%d+)\n(%d+)\n([^\n]+)\n([^\n]*)\n([^\n]*)\n([^\n]*)$'

-- Why the save cannot be taken, or nil.
local function refusal(head, records, version, seen, token, now)
  if version ~= (head and head.version or 0) + 1 then
    return head and string.format('version %.0f is stored', head.version) or 'no such run is stored'
  end
  if seen > records then return string.format('it has seen %.0f records of %.0f', seen, records) end
  if not head then return nil end
  if token == '' then
    return head.token ~= '' and head.expires > now and 'somebody holds it by a live lease' or nil
  end
  return head.token ~= token and 'the lease is no longer held' or nil
end

-- When the lease of a run that is driven on runs out: begun anew, or left alone while most of it is left.
local function expiry(head, token, ttl, now)
  local left = head and head.token == token and head.expires - now or 0
  return left > ttl / 2 and left <= ttl and head.expires or now + ttl
end

-- unpack() gives out at about 8,000 values.
local function append(log, records, first)
  for from = first, #records, 1000 do
    redis.call('RPUSH', log, unpack(records, from, math.min(from + 999, #records)))
  end
end

-- The records behind `first` are new. Gives how many stored ones the writer has not seen, or a refusal.
local function save(run, log, wakes, leases, births, facts, snapshot, new, first, now)
  local head, wrong = read(run)
  local records, unreadable = length(log)
  if wrong or unreadable then return 'corrupt: ' .. (wrong or unreadable) end
  local version, seen, status, wake, created, updated, ttl, workflow, event, token, writer = string.match(facts, FACTS)
  local added, stored = #new - first + 1, head and records or 0
  seen = tonumber(seen)
  if head and head.writer == writer and head.row[3] == version then return stored - seen - added end
  local reason = refusal(head, stored, tonumber(version), seen, token, now)
  if reason then return 'conflict: ' .. reason end

  local id, running = id_of(run), status == 'running'
  local from, before
  if head then from, before = stand(head, id, wakes, leases) end
  local after = {workflow = workflow, wake = tonumber(wake), token = running and token or '', expires = 0}
  if after.token ~= '' then after.expires = expiry(head, token, tonumber(ttl), now) end
  if seen < stored and (status == 'suspended' or status == 'waiting') then
    after.wake = math.min(after.wake or tonumber(updated), tonumber(updated))
  end
  local attempt = head and added == 0 and running and head.attempt or 0
  local bytes = head and head.bytes or 0
  for at = first, #new do bytes = bytes + #new[at] end

  if records > stored then redis.call('UNLINK', log) end -- what a run whose head was lost has left behind
  append(log, new, first)
  redis.call('HSET', run, 'workflow', workflow, 'status', status, 'version', version,
             'wake', after.wake and whole(after.wake) or '', 'event', event, 'attempt', whole(attempt),
             'created', created, 'updated', updated, 'token', after.token, 'expires', whole(after.expires),
             'writer', writer, 'bytes', whole(bytes), 'snapshot', snapshot)
  move(from, before, stand(after, id, wakes, leases))
  move(births, head and birth(head.created, id), births, birth(tonumber(created), id))
  return stored - seen
end
