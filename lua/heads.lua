-- heads(births, run, run, …; status, entry, entry, …)
--     -> {{at, field, …}, …}, {{at, what is wrong}, …}, how many were looked at
--
--   births  zset    index of all runs, by birth
--   run     hash    the head of each entry's run
--
-- Only those of the status, if one is given. An entry whose run is gone, or was born at another time, is set right.

local BUDGET = 4194304 -- bytes of snapshots that one answer may carry

local status, found, bad, stale, bytes, looked = ARGV[1], {}, {}, {}, 0, 0
for at = 1, #ARGV - 1 do
  local run, entry = KEYS[at + 1], ARGV[at + 1]
  local head, wrong = read(run, 'event', 'snapshot')
  local own = head and birth(head.created, id_of(run))
  if wrong then
    bad[#bad + 1] = {at, wrong}
  elseif own ~= entry then
    stale[#stale + 1] = {entry, own}
  elseif status == '' or status == head.status then
    found[#found + 1] = {at, unpack(head.row)}
    bytes = bytes + #head.row[13]
  end
  looked = at
  if bytes >= BUDGET then break end
end
for _, entry in ipairs(stale) do correct(KEYS[1], entry[1], KEYS[1], entry[2] or nil) end
return {found, bad, looked}
