// A statement that waits to be confirmed, by HTTP: `node node.mjs`. Node 18 or newer, no packages.
const event = {
  specversion: "1.0",
  id: "node-1",
  source: "billing",
  type: "duewatch.statement.opened.v1",
  time: "2026-11-24T02:00:00Z",
  data: {
    ref: "NODE-1",
    partner: "P-1001",
    statement_kind: "INCENTIVE",
    period: "2026-10",
    generated_at: "2026-11-24T01:00:00Z",
    amount_incl_tax: "106.00", // money is text: a number of JavaScript isn't exact
  },
};

for (let pause = 500; ; pause = Math.min(2 * pause, 30_000)) {
  let answer;
  try {
    answer = await fetch(`${process.env.EVENTS_URL}/v1/events`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${process.env.EVENTS_TOKEN ?? ""}`,
        "content-type": "application/cloudevents+json",
      },
      body: JSON.stringify(event),
    });
  } catch {
    answer = { status: 503 }; // not reached: the same again is safe
  }
  if (answer.status < 400) {
    console.log(await answer.text());
    break;
  }
  if (answer.status < 500 && answer.status !== 429) {
    console.error(await answer.text()); // the event is wrong: never again as it is
    process.exit(1);
  }
  await new Promise((go) => setTimeout(go, pause));
}
