// The TypeScript SDK of Anthropic, configured by ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const api = new Anthropic();
const ask = { model: "default", max_tokens: 16, messages: [{ role: "user", content: "weather apple" }] };
const twice = "weather apple ".repeat(8).trim();

const done = await api.messages.create(ask);
assert.equal(done.content[0].text, twice);
assert.equal(done.stop_reason, "max_tokens");
assert.equal(await api.messages.stream(ask).finalText(), twice);

const tools = [
  { name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
];
const called = await api.messages.stream({ ...ask, max_tokens: 64, tools }).finalMessage();
const use = called.content.find((block) => block.type === "tool_use");
assert.equal(called.stop_reason, "tool_use");
assert.equal(typeof use.input.city, "string");
const result = { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "rain" }] };
const after = await api.messages.create({
  ...ask,
  tools,
  tool_choice: { type: "none" },
  messages: [...ask.messages, { role: "assistant", content: called.content }, result],
});
assert.equal(after.content[0].type, "text");

const count = await api.messages.countTokens({ model: ask.model, messages: ask.messages });
assert.ok(count.input_tokens > 0);
await assert.rejects(api.messages.create({ ...ask, model: "nope" }), Anthropic.NotFoundError);
