// openai-node, configured by OPENAI_BASE_URL and OPENAI_API_KEY.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const api = new OpenAI();
const model = "default";
const messages = [{ role: "user", content: "apple pear" }];

const done = await api.chat.completions.create({ model, messages });
assert.equal(done.choices[0].message.content, "apple pear");

const stream = api.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
assert.equal(await stream.finalContent(), "apple pear");
assert.equal((await stream.totalUsage()).completion_tokens, 2);

const City = z.object({ city: z.string(), degrees: z.number() });
const parsed = await api.chat.completions.parse({ model, messages, response_format: zodResponseFormat(City, "city") });
assert.ok(City.safeParse(parsed.choices[0].message.parsed).success);

const called = [];
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    parse: JSON.parse,
    function: (args) => called.push(args) && "rain",
  },
};
for (const stream of [false, true]) {
  const runner = api.chat.completions.runTools(
    { model, stream, messages: [{ role: "user", content: "weather please" }], tools: [weather] },
    { maxChatCompletions: 2 },
  );
  await runner.done();
  assert.equal(typeof called.pop().city, "string");
  called.length = 0;
}

const vectors = await api.embeddings.create({ model, input: ["a b", "b c"] });
assert.equal(vectors.data[1].embedding.length, 64);
assert.ok(vectors.data[1].embedding.some((x) => x !== 0));

const answer = await api.responses.create({ model, input: "apple pear" });
assert.equal(answer.output_text, "apple pear");
const responses = await api.responses.stream({ model, input: "apple pear" }).finalResponse();
assert.equal(responses.output_text, "apple pear");

const ids = [];
for await (const entry of api.models.list()) ids.push(entry.id);
assert.deepEqual(ids, [model]);
await assert.rejects(api.models.retrieve("nope"), OpenAI.NotFoundError);
