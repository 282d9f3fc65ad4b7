-- claim(wakes, leases, run, log, run, log, …; now, token, ttl, expired, entries)
--     -> numbers and texts of the taken, {{at, what is wrong}, …}, how many were lost to others or not looked at
--
--   wakes     zset          index of the runs that nobody holds, by wake
--   leases    zset          index of the held runs, by expiry
--   run, log  hash, list    of each entry's run
--
-- The first `expired` entries are of leases, the others of wakes; tabs part them. Runs that this very token holds
-- are given again: the client may have sent the call twice.
--
-- For each run taken the numbers are its place among the entries, the sizes of its lines and its snapshot, the count
-- of its records and their sizes; the texts are all these, one behind the other. That is much cheaper to read than a
-- list of lists. A log that would hold up the server has the count -1 and is left to be read by the caller.

local PATIENCE = 16 -- entries lost before the first is taken: somebody else is at work here
local SNAPSHOTS, LOGS, RECORDS = 4194304, 1048576, 2000 -- bytes, bytes, and records that one answer may carry

local wakes, leases, token, expired, now = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[4]), clock()
local entries, expires = split(ARGV[5]), digits(now + ARGV[3])
local takes, taken, bad, untidy, lost = {}, {}, {}, {}, 0

-- The records of a run, or false where they are too many for this answer; nil and what is wrong with them.
local function records_of(log, found)
  if found.records == 0 or found.records > RECORDS or found.bytes > LOGS then
    local wrong = damage(log, found.records)
    if wrong then return nil, wrong end
    return found.records == 0 and {}
  end
  local records = redis.pcall('LRANGE', log, 0, -1)
  if records.err or #records ~= found.records then return nil, damage(log, found.records) end
  RECORDS, LOGS = RECORDS - found.records, LOGS - found.bytes
  return records
end

for at, entry in ipairs(entries) do
  local run, log, index = KEYS[2 * at + 1], KEYS[2 * at + 2], at <= expired and leases or wakes
  local found, wrong = look(run)
  local ours = found and not taken[run] and (found.token == token or is_due(found, run, index, entry, wakes, leases, now))
  if ours then found.log, wrong = records_of(log, found) end
  if ours and not wrong then
    found.at, found.run, found.index, taken[run] = at, run, index, true
    takes[#takes + 1] = found
    SNAPSHOTS = SNAPSHOTS - #found.snapshot
  else
    untidy[#untidy + 1] = {found = found, wrong = wrong, index = index, entry = entry, run = run}
    if wrong then
      bad[#bad + 1] = {at, wrong}
    elseif found and not taken[run] then
      lost = lost + 1
    end
  end
  if SNAPSHOTS <= 0 or (lost >= PATIENCE and #takes == 0) then
    lost = lost + #entries - at
    break
  end
end

-- Numbers as text, each made once: that takes longer than all else that is done with them.
local text_of = setmetatable({}, {__index = function(known, number)
  known[number] = string.format('%d', number)
  return known[number]
end})
local numbers, pieces, texts, last, size = {}, {}, {}, 0, 0

-- Pieces are joined a few at a time: all at once they would be copied over and over.
local function join()
  texts[#texts + 1] = table.concat(pieces, '', 1, size)
  size = 0
end

local gone, held = {[wakes] = {}, [leases] = {}}, {}
for number, found in ipairs(takes) do
  local index, entry = stand_of(found, found.run, wakes, leases)
  if entry then table.insert(gone[index], entry) end
  if found.token == token then table.insert(gone[found.index], entries[found.at]) end -- not where it stands
  if found.token ~= '' and found.token ~= token then found.attempt = found.attempt + 1 end
  local lines = found.front .. found.attempt .. '\n' .. found.wake .. '\n' .. token .. '\n' .. expires ..
    '\n' .. found.back
  redis.call('HSET', found.run, 'head', lines)
  held[2 * number - 1], held[2 * number] = '0', found.workflow .. '\n' .. expires .. '\n' .. id_of(found.run)
  local records = found.log or {}
  numbers[last + 1], numbers[last + 2] = text_of[found.at], text_of[#lines]
  numbers[last + 3], numbers[last + 4] = text_of[#found.snapshot], found.log and text_of[#records] or '-1'
  last = last + 4
  pieces[size + 1], pieces[size + 2] = lines, found.snapshot
  size = size + 2
  for at = 1, #records do
    numbers[last + at], pieces[size + at] = text_of[#records[at]], records[at]
  end
  last, size = last + #records, size + #records
  if size >= 32 then join() end
end
join()
for index, entries in pairs(gone) do
  if #entries > 0 then redis.call('ZREM', index, unpack(entries)) end
end
if #held > 0 then redis.call('ZADD', leases, unpack(held)) end
for _, one in ipairs(untidy) do
  if taken[one.run] then one.found = nil end -- it no longer stands where it stood when it was looked at
end
tidy(untidy, wakes, leases, math.max(now, ARGV[1]))
return {table.concat(numbers, ' '), texts, bad, lost}
