// ollama-js, configured by OLLAMA_HOST.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const api = new Ollama({ host: process.env.OLLAMA_HOST });
const model = "default";
const messages = [{ role: "user", content: "apple pear" }];

assert.equal((await api.chat({ model, messages })).message.content, "apple pear");
let text = "";
for await (const part of await api.chat({ model, messages, stream: true })) text += part.message.content;
assert.equal(text, "apple pear");
assert.equal((await api.generate({ model, prompt: "x y" })).response, "x y");

const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", description: "", parameters } }];
const called = await api.chat({ model, messages: [{ role: "user", content: "weather" }], tools });
assert.equal(typeof called.message.tool_calls[0].function.arguments.city, "string");
const formed = await api.chat({ model, messages, format: parameters });
assert.equal(typeof JSON.parse(formed.message.content).city, "string");

assert.equal((await api.embed({ model, input: ["a b", "b c"] })).embeddings[1].length, 64);
assert.deepEqual((await api.list()).models.map((entry) => entry.model), [model]);
assert.ok((await api.show({ model })).capabilities.includes("completion"));
await assert.rejects(api.chat({ model: "nope", messages }), { status_code: 404 });
