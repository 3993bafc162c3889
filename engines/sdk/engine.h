/* The engine ABI of CY-LLM: what an engine that computes inside the worker process exports.
 *
 * Plain C, versioned, loaded with dlopen(RTLD_LOCAL | RTLD_NOW) on first use and never unloaded.
 * A manifest (manifest.json beside the library) is read before, so that engines are listed unloaded:
 *   {"name": "echo", "version": "1", "library": "libcyllm_engine_echo.so", "abi": {"major": 1, "minor": 2},
 *    "description": "...", "capabilities": ["chat", "text", "tokens"], "devices": ["cpu"],
 *    "needs_model_file": false, "default_model": "default", "options": ["ttft_ms"]}
 * `name` and `abi` are those of the table. `capabilities`: the CYLLM_CAP_* that it may have with some model,
 * in small letters. `devices` (cpu, cuda, rocm, vulkan, ascend): it computes on one of them. `options`: keys
 * of a registry entry that it reads; entries with others are refused. `needs_model_file`: an entry names a
 * model file. `version`, `description`, `devices`, `options`, `default_model` (its id when nothing is
 * configured) and `default_source` (where that comes from) may be absent. Unknown keys are ignored.
 *
 * Rules that hold everywhere
 * - Every struct that crosses starts with its size as compiled by its writer. Structs only ever grow at
 *   the end; a reader treats what lies past `size` as zero. In an array every element has the size of the
 *   first, which is the step from one to the next. Major versions must be equal; a plugin asks for a minor
 *   version not newer than the host's.
 * - No exception crosses. No call blocks, but create, drain and destroy.
 * - Pointers passed in either direction live for the duration of the call only.
 * - cyllm_str is not zero-terminated; {NULL, 0} is the empty string. Texts are UTF-8.
 */
#ifndef CYLLM_ENGINE_H_
#define CYLLM_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CYLLM_ENGINE_ABI_MAJOR 1
#define CYLLM_ENGINE_ABI_MINOR 2

typedef struct cyllm_str {
  const char* data;
  size_t len;
} cyllm_str;

/* gRPC's status codes; others are not used. */
enum {
  CYLLM_OK = 0,
  CYLLM_CANCELLED = 1,
  CYLLM_INVALID_ARGUMENT = 3,
  CYLLM_DEADLINE_EXCEEDED = 4,
  CYLLM_NOT_FOUND = 5,
  CYLLM_RESOURCE_EXHAUSTED = 8,
  CYLLM_FAILED_PRECONDITION = 9,
  CYLLM_UNIMPLEMENTED = 12,
  CYLLM_INTERNAL = 13,
  CYLLM_UNAVAILABLE = 14
};

/* An error by value. `reason` is machine-readable (context_length_exceeded, overloaded, ...), `param` the
 * request field at fault; both may be empty. Texts are cut to fit, at a code point. */
typedef struct cyllm_error {
  size_t size;
  int32_t code;
  uint32_t retryable; /* non-zero: another worker, or the same one later, may succeed */
  uint32_t retry_after_ms;
  char reason[64];
  char param[64];
  char message[1024];
} cyllm_error;

enum { CYLLM_LOG_DEBUG = 0, CYLLM_LOG_INFO = 1, CYLLM_LOG_WARN = 2, CYLLM_LOG_ERROR = 3 };

/* What the host offers; valid until the process ends. Every function is thread-safe and non-blocking. */
typedef struct cyllm_host {
  size_t size;
  uint32_t abi_major;
  uint32_t abi_minor;
  void* ctx;
  void (*log)(void* ctx, int level, cyllm_str message);
  void (*set_gauge)(void* ctx, cyllm_str name, double value);
  uint64_t (*now_ns)(void* ctx); /* CLOCK_MONOTONIC */
} cyllm_host;

enum {
  CYLLM_KIND_CHAT = 0,
  CYLLM_KIND_TEXT = 1,
  CYLLM_KIND_TOKENS = 2,
  CYLLM_KIND_EMBED = 3,     /* a vector of each of `inputs` */
  CYLLM_KIND_RERANK = 4,    /* how well each of `inputs` answers `prompt` */
  CYLLM_KIND_TOKENIZE = 5,  /* `messages_json` or else `prompt` as tokens: one TEXT event, then FINISHED */
  CYLLM_KIND_DETOKENIZE = 6 /* `prompt_tokens` as text: one TEXT event, then FINISHED */
};

/* Bits; also of RequestFacts.needs and ModelInfo.capabilities. */
enum {
  CYLLM_CAP_CHAT = 1 << 0,
  CYLLM_CAP_TEXT = 1 << 1,
  CYLLM_CAP_TOKENS = 1 << 2,
  CYLLM_CAP_EMBED = 1 << 3,
  CYLLM_CAP_RERANK = 1 << 4,
  CYLLM_CAP_TOOLS = 1 << 5,
  CYLLM_CAP_JSON_SCHEMA = 1 << 6,
  CYLLM_CAP_LOGPROBS = 1 << 7,
  CYLLM_CAP_VISION = 1 << 8,
  CYLLM_CAP_RESUME = 1 << 9,
  CYLLM_CAP_LORA = 1 << 10,
  CYLLM_CAP_INFILL = 1 << 11,  /* `suffix` */
  CYLLM_CAP_TOKENIZE = 1 << 12 /* TOKENIZE and DETOKENIZE */
};

typedef struct cyllm_logit_bias {
  int32_t token;
  float bias;
} cyllm_logit_bias;

/* Absent numbers are NaN (doubles) or INT32_MIN (top_k): the engine's default then applies. 0 is 0. */
typedef struct cyllm_sampling {
  size_t size;
  double temperature; /* 0: greedy */
  double top_p;
  double min_p;
  double repetition_penalty;
  double presence_penalty;
  double frequency_penalty;
  int32_t top_k; /* <= 0: off */
  uint32_t min_tokens;
  uint32_t ignore_eos;
  uint32_t logprobs; /* non-zero: deltas carry logprobs; TOKENIZE: entries whose `bytes` are each token's */
  uint32_t top_logprobs;
  const cyllm_logit_bias* logit_bias;
  size_t n_logit_bias;
  const cyllm_str* stop; /* stop strings; never part of the output */
  size_t n_stop;
  const int32_t* stop_token_ids;
  size_t n_stop_token_ids;
} cyllm_sampling;

/* Where a choice of an interrupted request stood: the tokens of the events that arrived, and how many bytes
 * of each kind they carried. The engine takes the tokens as produced, silently, and goes on; events carry
 * only what lies past the bytes, so that both parts together are the undisturbed answer. Offsets and
 * completion_tokens count from the choice's beginning, ACCEPTED comes again, and so does FINISHED of a choice
 * that had finished. Tokens that the request cannot have produced: INVALID_ARGUMENT, reason `cannot_resume`.
 */
typedef struct cyllm_resume_choice {
  const int32_t* token_ids;
  size_t n_token_ids;
  uint64_t text_bytes; /* see cyllm_offsets */
  uint64_t reasoning_bytes;
  uint64_t tool_argument_bytes;
} cyllm_resume_choice;

/* A text to embed or to rank; its tokens where there are any. */
typedef struct cyllm_input {
  size_t size;
  cyllm_str text;
  const int32_t* tokens;
  size_t n_tokens;
} cyllm_input;

#define CYLLM_MAX_TOKENS_UNSET UINT32_MAX

typedef struct cyllm_request {
  size_t size;
  uint64_t id; /* chosen by the host, never reused within an engine */
  uint32_t kind;
  int32_t priority; /* lower runs first */
  cyllm_str model;
  cyllm_str adapter;
  cyllm_str messages_json;        /* CHAT: OpenAI messages, a JSON array, validated */
  cyllm_str tools_json;           /* may be empty */
  cyllm_str tool_choice_json;     /* may be empty */
  cyllm_str response_format_json; /* may be empty */
  cyllm_str template_kwargs_json; /* may be empty */
  cyllm_str prompt;               /* TEXT: continued as it is */
  const int32_t* prompt_tokens;   /* TOKENS */
  size_t n_prompt_tokens;
  uint32_t max_tokens; /* CYLLM_MAX_TOKENS_UNSET: the rest of the context. 0: no token, finish `length` */
  uint32_t n;          /* choices, >= 1 */
  uint32_t has_seed;
  uint32_t echo; /* TEXT/TOKENS: the prompt's text comes first */
  int64_t seed;
  uint32_t credit; /* events the host will take; a request without credit is not scheduled */
  uint32_t parallel_tool_calls;
  const cyllm_sampling* sampling;    /* never NULL */
  const cyllm_resume_choice* resume; /* n entries, or NULL */
  /* since 1.1 */
  cyllm_str suffix;          /* TEXT: what comes after the part that is asked for */
  const cyllm_input* inputs; /* EMBED, RERANK */
  size_t n_inputs;
  uint32_t dimensions;        /* EMBED: cut vectors to so many, normalised again; 0: as they are */
  uint32_t no_special_tokens; /* TOKENIZE: do not add what the model's prompts begin with */
  const uint64_t*
      prefix_hashes; /* of the prompt's blocks; names for cached prefixes in cyllm_callbacks.cache */
  size_t n_prefix_hashes;
  /* since 1.2 */
  cyllm_str
      extra_json; /* CHAT, TEXT, TOKENS: an object of the body's fields that are not in here; may be empty */
} cyllm_request;

enum {
  CYLLM_EVENT_ACCEPTED = 0, /* first event of every request that is not refused */
  CYLLM_EVENT_TEXT = 1,     /* costs one credit, as do the next two */
  CYLLM_EVENT_REASONING = 2,
  CYLLM_EVENT_TOOL_CALL = 3,
  CYLLM_EVENT_FINISHED = 4, /* once per choice */
  CYLLM_EVENT_END = 5,      /* the terminal event: exactly one per submitted request, also after cancel */
  CYLLM_EVENT_VALUES = 6    /* EMBED, RERANK: of input number `choice`, once each; costs one credit */
};

enum {
  CYLLM_FINISH_STOP = 0,
  CYLLM_FINISH_LENGTH = 1,
  CYLLM_FINISH_TOOL_CALLS = 2,
  CYLLM_FINISH_CONTENT_FILTER = 3
};

/* Cumulative per choice, this event included. */
typedef struct cyllm_offsets {
  uint64_t tokens;
  uint64_t text_bytes;
  uint64_t reasoning_bytes;
  uint64_t tool_argument_bytes;
} cyllm_offsets;

typedef struct cyllm_logprob {
  int32_t token;
  float logprob;
  cyllm_str bytes;
  const struct cyllm_logprob* top;
  size_t n_top;
} cyllm_logprob;

typedef struct cyllm_event {
  size_t size;
  uint64_t id;
  uint32_t type;
  uint32_t choice;
  cyllm_str text; /* TEXT, REASONING: complete code points; TOOL_CALL: a piece of the arguments */
  const int32_t* token_ids;
  size_t n_token_ids;
  const cyllm_logprob* logprobs;
  size_t n_logprobs;
  cyllm_offsets end;
  uint32_t tool_index;
  cyllm_str tool_id;   /* first event of a call only */
  cyllm_str tool_name; /* first event of a call only */
  uint32_t finish_reason;
  cyllm_str stop_match;
  uint32_t prompt_tokens; /* ACCEPTED, FINISHED */
  uint32_t cached_tokens;
  uint32_t completion_tokens; /* FINISHED: of this choice */
  uint32_t reasoning_tokens;
  double queue_ms; /* FINISHED: submit to first prefill; to first token; first to last token */
  double ttft_ms;
  double decode_ms;
  const cyllm_error* error; /* END: NULL means OK */
  /* since 1.1 */
  const float* values; /* VALUES: the vector, or one score (higher is better) */
  size_t n_values;
} cyllm_event;

typedef struct cyllm_description {
  size_t size;
  uint64_t capabilities; /* CYLLM_CAP_* that this engine has with this model */
  uint32_t max_model_len;
  uint32_t max_running; /* sequences decoded together */
  uint64_t memory_bytes;
  char digest[72]; /* of model, tokenizer, template: equal digests can resume each other's requests */
  /* since 1.1 */
  uint32_t
      max_step_tokens; /* of prompts, that one step computes at most, and cyllm_stats.steps counts all
                        * steps: one that lasts many times longer than those before it hangs. 0: no bound */
} cyllm_description;

typedef struct cyllm_stats {
  size_t size;
  uint32_t running;
  uint32_t waiting;
  uint64_t kv_cells_used;
  uint64_t kv_cells_total;
  uint64_t steps;
  uint64_t tokens_generated;
  uint64_t prompt_tokens_processed;
  /* since 1.1 */
  uint64_t prompt_tokens_cached;  /* not computed: their KV was there */
  uint64_t cached_tokens_evicted; /* given up for room */
  uint64_t preemptions;           /* running sequences set back to make room; recomputed later */
  uint64_t draft_tokens;          /* guessed and computed ahead (speculation) */
  uint64_t draft_tokens_accepted; /* of them, those that were right */
} cyllm_stats;

/* How the host listens to one engine. `events` is called serially, from any engine thread, once per step
 * with the events of all requests; it must not block and must not call back into the engine but for
 * cancel and credit. */
typedef struct cyllm_callbacks {
  size_t size;
  void* ctx;
  void (*events)(void* ctx, const cyllm_event* events, size_t n);
  /* since 1.1; may be NULL. Prefixes (cyllm_request.prefix_hashes) that the engine holds in its cache from
   * now on, and that it no longer holds. Serial with `events`. */
  void (*cache)(void* ctx, const uint64_t* added, size_t n_added, const uint64_t* removed, size_t n_removed);
} cyllm_callbacks;

/* Called from inside create; fraction 0..1. Returns non-zero to abort the load. */
typedef int (*cyllm_progress_fn)(void* ctx, double fraction, cyllm_str detail);

typedef struct cyllm_engine cyllm_engine;

typedef struct cyllm_engine_api {
  size_t size;
  uint32_t abi_major;
  uint32_t abi_minor;
  const char* name;    /* static, zero-terminated */
  const char* version; /* of the plugin and its library, for logs */

  /* Blocks for as long as loading takes; the host calls it on a thread of its own. `config_json` is an
   * object: "model": {"id", "path" (a local file, may be absent), ...the registry entry's other keys},
   * "threads". Returns NULL and fills `error` on failure. */
  cyllm_engine* (*create)(cyllm_str config_json, const cyllm_callbacks* callbacks, cyllm_progress_fn progress,
                          void* progress_ctx, cyllm_error* error);

  void (*describe)(cyllm_engine* engine, cyllm_description* out);

  /* Thread-safe, never blocks. Copies what it needs. CYLLM_OK: exactly one END event will follow. Anything
   * else: refused, `error` filled, no event follows. */
  int32_t (*submit)(cyllm_engine* engine, const cyllm_request* request, cyllm_error* error);

  /* Thread-safe, idempotent, never blocks; unknown ids are ignored. END (CANCELLED) follows within a step. */
  void (*cancel)(cyllm_engine* engine, uint64_t id);

  /* Thread-safe, never blocks: the host will take `events` more events of this request. */
  void (*credit)(cyllm_engine* engine, uint64_t id, uint32_t events);

  void (*stats)(cyllm_engine* engine, cyllm_stats* out); /* thread-safe, never blocks */

  /* New submits are refused (UNAVAILABLE); returns when every request has ended. */
  void (*drain)(cyllm_engine* engine);

  /* Ends what still runs (END, CANCELLED), then frees. No event follows its return. */
  void (*destroy)(cyllm_engine* engine);
} cyllm_engine_api;

/* The one exported symbol, `cyllm_engine_entry`. Returns NULL when the host's version does not suit. The
 * table is static. */
typedef const cyllm_engine_api* (*cyllm_engine_entry_fn)(const cyllm_host* host);

#ifdef __cplusplus
}
#endif

#endif /* CYLLM_ENGINE_H_ */
