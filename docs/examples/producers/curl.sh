#!/bin/sh
# An approved payment, by HTTP. EVENTS_URL is the server's address, EVENTS_TOKEN its token.
set -eu
curl --fail-with-body --silent --show-error --retry 5 \
  --header "Authorization: Bearer ${EVENTS_TOKEN:-}" \
  --header "Content-Type: application/cloudevents+json" \
  --data @- "$EVENTS_URL/v1/events" <<JSON
{
  "specversion": "1.0",
  "id": "curl-1",
  "source": "billing",
  "type": "duewatch.payment.opened.v1",
  "time": "2026-11-24T02:00:00Z",
  "data": {
    "ref": "CURL-1", "partner": "P-1001", "programme": "FH", "status": "付款申请审核通过",
    "approved_at": "2026-11-24T02:00:00Z", "amount_incl_tax": "106.00",
    "buyer_title": "示例云计算有限公司", "buyer_tax_no": "91520900MA6J6CBN9Q"
  }
}
JSON
