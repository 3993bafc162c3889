// The Vercel AI SDK, by each of its three providers that speak to us.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = process.env.GATEWAY + "/v1";
const apiKey = process.env.KEY;
const compatible = createOpenAICompatible({ name: "cy", baseURL, apiKey, supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL, apiKey });
const anthropic = createAnthropic({ baseURL, apiKey });
const City = z.object({ city: z.string() });

for (const model of [compatible("default"), openai.chat("default"), openai("default"), anthropic("default")]) {
  const ask = { model, maxRetries: 0, maxOutputTokens: 64 };
  const short = { ...ask, maxOutputTokens: 16, prompt: "apple pear" };
  assert.ok((await generateText(short)).text.startsWith("apple pear"), model.provider);
  let text = "";
  for await (const part of streamText(short).textStream) text += part;
  assert.ok(text.startsWith("apple pear"), model.provider);

  const called = [];
  const execute = async (args) => called.push(args) && "rain";
  const tools = { weather: tool({ description: "of a city", inputSchema: City, execute }) };
  const loop = { ...ask, tools, prompt: "weather please", stopWhen: stepCountIs(2) };
  assert.ok((await generateText(loop)).steps.length === 2, model.provider);
  for await (const part of streamText(loop).fullStream) assert.notEqual(part.type, "error", model.provider);
  assert.ok(called.length >= 2 && called.every((args) => typeof args.city === "string"), model.provider);
}

for (const model of [compatible("default"), openai.chat("default"), openai("default")]) {
  const { object } = await generateObject({ model, maxRetries: 0, schema: City, prompt: "apple" });
  assert.equal(typeof object.city, "string", model.provider);
}
for (const model of [compatible.embeddingModel("default"), openai.embedding("default")]) {
  assert.equal((await embedMany({ model, values: ["a b", "b c"] })).embeddings[1].length, 64);
}
