-- Alertmanager's webhook body with different fingerprints each time: wrk -s post.lua URL -- NAME N WHO
local counter = 0
local template

local function alert(id)
  return string.format([[{"status":"firing","labels":{"alertname":"%s","instance":"host-%d.example:9100",
"job":"bench","service":"checkout","severity":"critical","team":"core","cluster":"eu-1"},"annotations":
{"summary":"Bench alert on host-%d","description":"The value is above its threshold for a while now.",
"runbook_url":"https://example.com/runbooks/bench"},"startsAt":"2026-01-01T00:00:00.000Z",
"endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus.example:9090/graph?g0.expr=up+%%3D%%3D+0&g0.tab=1",
"fingerprint":"%016x"}]], name, id, id, id)
end

function setup(thread)
  offset = (offset or 0) + 1
  thread:set("thread_number", offset)
end

function init(args)
  name = args[1]
  size = tonumber(args[2])
  counter = os.time() % 100000 * 100000 + thread_number * 1e10 + tonumber(args[3]) * 1e12
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["User-Agent"] = "Alertmanager/0.25.0"
end

function request()
  local alerts = {}
  for i = 1, size do
    counter = counter + 1
    alerts[i] = alert(counter)
  end
  local body = '{"receiver":"bench","status":"firing","alerts":[' .. table.concat(alerts, ",")
    .. '],"groupLabels":{"alertname":"' .. name .. '"},"commonLabels":{},"commonAnnotations":{},'
    .. '"externalURL":"http://alertmanager.example:9093","version":"4",'
    .. '"groupKey":"{}:{alertname=\\"' .. name .. '\\"}","truncatedAlerts":0}'
  return wrk.format(nil, nil, nil, body)
end

function done(summary, latency, requests)
  io.write(string.format('RESULT {"requests":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
