-- heads(births, run, run, …; status, entry, entry, …)
--     -> {{at, lines, snapshot}, …}, {{at, what is wrong}, …}, how many were looked at
--
--   births  zset    index of all runs, by birth
--   run     hash    the head of each entry's run
--
-- Only those of the status, if one is given. An entry whose run is gone, or was born at another time, is set right.

local BUDGET = 4194304 -- bytes of snapshots that one answer may carry

local status, found, bad, stale, size, looked = ARGV[1], {}, {}, {}, 0, 0
for at = 1, #ARGV - 1 do
  local run, entry = KEYS[at + 1], ARGV[at + 1]
  local head, wrong = read(run)
  local own = head and head.created .. '\n' .. id_of(run)
  if wrong then
    bad[#bad + 1] = {at, wrong}
  elseif own ~= entry then
    stale[#stale + 1] = {entry, own}
  elseif status == '' or status == head.status then
    local snapshot = redis.call('HGET', run, 'snapshot')
    if snapshot then
      found[#found + 1] = {at, lines_of(head), snapshot}
      size = size + #snapshot
    else
      bad[#bad + 1] = {at, 'its snapshot is missing'}
    end
  end
  looked = at
  if size >= BUDGET then break end
end
for _, pair in ipairs(stale) do
  if redis.call('ZREM', KEYS[1], pair[1]) == 1 and pair[2] then redis.call('ZADD', KEYS[1], 0, pair[2]) end
end
return {found, bad, looked}
