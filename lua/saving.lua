-- One save, for save.lua and save_many.lua; needs run.lua. It reads and refuses before it writes.
--
-- This is the store's busiest call: it keeps to as few commands as there can be, and takes out of the lines only what
-- it has to know.
--
-- The facts of a save are lines too: version, writer, seen, count of new records, wake, token, ttl; then the last five
-- lines of its head as they are to be.

local FACTS = '^(%d+)\n([^\n]+)\n(%d+)\n(%d+)\n(%d*)\n([^\n]*)\n(%d+)\n(([^\n]+\n%d+)\n(%l+)\n.+)$'

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

-- Add some of the records to a log. Gives what is wrong with the log, where it is none.
local function append(log, records, first, last)
  for from = first, last, 1000 do -- unpack() gives out at about 8,000 values
    local length = redis.pcall('RPUSH', log, unpack(records, from, math.min(from + 999, last)))
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

-- The index and the entry of it for a workflow and time of birth that are one text: `where` is these two lines.
local function stand_of(where, wake, token, expires, id, wakes, leases)
  return stand(string.match(where, '^[^\n]+'), wake, token, expires, id, wakes, leases)
end

local function born(where, id)
  return string.match(where, '%d+$') .. '\n' .. id
end

-- The save whose facts, snapshot and records are the arguments from `at` on. Gives how many stored records its
-- writer has not seen, or a refusal; and where the next save's arguments begin.
local function save(run, log, wakes, leases, births, arguments, at, now)
  local facts, snapshot, first = arguments[at], arguments[at + 1], at + 2
  local version, writer, seen, added, wake, token, ttl, tail, where, status = string.match(facts, FACTS)
  local last = first + added - 1
  local lines = redis.pcall('HGET', run, 'head')
  local before, author, stored, bytes, attempt, woken, holder, expired, whence
  if type(lines) == 'string' then
    before, author, stored, bytes, attempt, woken, holder, expired, whence = string.match(lines, HEAD)
    if not before then return 'corrupt: ' .. GARBLED, last + 1 end
  elseif lines then
    return 'corrupt: ' .. tostring(lines.err), last + 1
  end
  stored, seen, bytes = tonumber(stored or 0), tonumber(seen), bytes or 0
  if author == writer and before == version then return stored - seen - added, last + 1 end
  local reason = refusal(tonumber(version), tonumber(before or 0), seen, stored, token, holder, expired, now)
  if reason then return 'conflict: ' .. reason, last + 1 end
  if not before then redis.call('ZCARD', births) end -- a foreign key there raises before anything is written
  local wrong = not before and remains(run, log) or append(log, arguments, first, last)
  if wrong then return 'corrupt: ' .. wrong, last + 1 end

  local expires = '0'
  if status ~= 'running' then
    token, attempt = '', 0
  else
    if token ~= '' then
      local left = holder == token and expired - now or 0 -- of a lease that is renewed once half of it is gone
      expires = left > ttl / 2 and left <= ttl + 0 and expired or digits(now + ttl)
    end
    if last >= first or not before then attempt = 0 end
  end
  if seen < stored and not is_over(status) then
    local updated = string.match(tail, '^[^\n]+\n%d+\n%l+\n(%d+)')
    if wake == '' or wake + 0 > updated + 0 then wake = updated end
  end
  for record = first, last do bytes = bytes + #arguments[record] end
  redis.call('HSET', run, 'head', version .. '\n' .. writer .. '\n' .. (stored + added) .. '\n' .. bytes .. '\n' ..
    attempt .. '\n' .. wake .. '\n' .. token .. '\n' .. expires .. '\n' .. tail, 'snapshot', snapshot)

  if holder ~= token or expired ~= expires or whence ~= where or (token == '' and woken ~= wake) then
    local id, from, entry = id_of(run), nil, nil
    if before then from, entry = stand_of(whence, woken, holder, expired, id, wakes, leases) end
    move(from, entry, stand_of(where, wake, token, expires, id, wakes, leases))
    move(births, before and born(whence, id), births, born(where, id))
  end
  return stored - seen, last + 1
end
