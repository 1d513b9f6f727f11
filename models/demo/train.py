"""Trains the demo model from text.txt and writes it as a GGUF file. See README.md.

    python train.py demo.gguf            the model, from all of the text
    python train.py --from demo.gguf --turns --rate 0.001 demo.gguf
                                         goes on from a model, with talks of several turns
    python train.py --holdout x.gguf     without a tenth of its questions, and says how many
                                         of those are answered right
"""
import argparse
import collections
import json
import random
import re
import time
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
CONTEXT = 512  # tokens of a row in training
NAMED_CONTEXT = 2048  # what the file says: RoPE looks at distances, and those in an answer are short
VOCAB, WIDTH, LAYERS, HEADS, HIDDEN = 3072, 256, 3, 4, 704
EPSILON, ROPE_BASE = 1e-5, 10000.0
BOS, SYSTEM, USER, ASSISTANT, END = range(5)
SPECIAL = ["<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
# What is asked comes in small letters and after a space: then a word is the same tokens
# wherever it stands, and so few examples are enough to know it.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] | trim + '<|end|>' }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|> ' + message['content'] | trim | lower + '<|end|>' }}"
    "{% else %}{{ '<|system|> ' + message['content'] | trim | lower + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# How Llama 3 cuts text before pairs are merged; llama.cpp knows it as llama-bpe.
CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


# The text: lists, topics, questions, answers.


class Text:
    def __init__(self, path):
        self.lists, self.topics, self.synonyms = {}, [], {}
        for line in path.read_text().splitlines():
            if not line or line[0] == "#":
                continue
            if line[0] == "$":
                name, options = line[1:].split(" = ")
                self.lists[name] = [parse(o.strip()) for o in options.split("|")]
            elif line[0] == "~":
                group = [w.strip() for w in line[1:].split("|")]
                for w in group:
                    self.synonyms.setdefault(w, []).extend(o for o in group if o != w)
            elif line[0] == "[":
                self.topics.append(([], []))
            elif line[:2] == "? ":
                self.topics[-1][0].append(parse(line[2:]))
            elif line[:2] == "= ":
                self.topics[-1][1].append(line[2:])
            else:
                self.topics[-1][1][-1] += "\n" + line
        longest_first = sorted(self.synonyms, key=len, reverse=True)
        self.synonym = re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")

    def draw(self, parts, rng):
        """One of the texts that parts stand for."""
        out = []
        for p in parts:
            if isinstance(p, str):
                out.append(p)
            elif isinstance(p, tuple):
                out.append(self.draw(rng.choice(self.lists[p[0]]), rng))
            else:
                out.append(self.draw(rng.choice(p), rng))
        return re.sub(r" +([,.!?]|$)", r"\1", re.sub(r"  +", " ", "".join(out))).strip()


def parse(text):
    """Text with {a|b} and <name> to a list of strings, lists of such lists, and (name,)."""
    parts, rest = [], text
    while rest:
        m = re.search(r"\{|<(\w+)>", rest)
        if not m:
            return parts + [rest]
        parts.append(rest[: m.start()])
        if m[1]:
            parts.append((m[1],))
            rest = rest[m.end() :]
            continue
        depth, start, options = 0, m.end(), []
        for i in range(m.start(), len(rest)):
            depth += (rest[i] == "{") - (rest[i] == "}")
            if (rest[i] == "|" and depth == 1) or depth == 0:
                options.append(parse(rest[start:i]))
                start = i + 1
                if depth == 0:
                    break
        parts.append(options)
        rest = rest[start:]
    return parts


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def forbidden():
    """The questions that judge the model: no run of five words of one may be learnt."""
    runs = set()
    for line in (HERE / "questions.txt").read_text().splitlines():
        if line and line[0] != "#":
            w = words(line.split("|")[0])
            runs |= {tuple(w)} | {tuple(w[i : i + 5]) for i in range(len(w) - 4)}
    lengths = sorted({len(r) for r in runs})

    def stands_in(text):
        w = words(text)
        return any(tuple(w[i : i + n]) in runs for n in lengths for i in range(len(w) - n + 1))

    return stands_in


# How people write: the same question in other clothes.

BEFORE = "hey, |hi, |hello, |ok, |so |so, |well, |and |but |please |sorry, |excuse me, |one more thing: |quick question: |another question: |um, |say, |oh, |thanks, |great, |now |next: |by the way, |just wondering, |maybe you know: |I wonder, |honestly, |pardon me, |also, |one question: ".split("|")
AFTER = " please| thanks| then| exactly| anyway| here| now| today| really| by the way| at all| again| for me| somehow| quickly| in your opinion| my friend| right now| if I may ask| though| in general| from here| or not| on this computer| with this".split("|")
FILLERS = "really actually just maybe simply possibly perhaps even ever also still exactly basically somehow now again already quickly easily".split()


def dress(q, rng):
    if rng.random() < 0.15:
        q = rng.choice(BEFORE) + q
    if rng.random() < 0.12:
        q += rng.choice(AFTER)
    w = q.split(" ")
    if len(w) > 3 and rng.random() < 0.15:
        w.insert(rng.randrange(1, len(w)), rng.choice(FILLERS))
    if len(w) > 4 and rng.random() < 0.1:
        del w[rng.randrange(len(w))]
    if rng.random() < 0.05:
        i = rng.randrange(len(w))
        if len(w[i]) > 3:
            k = rng.randrange(1, len(w[i]) - 1)
            w[i] = w[i][:k] + rng.choice([w[i][k + 1 :], w[i][k + 1] + w[i][k] + w[i][k + 2 :]])
    q = " ".join(w)
    if q[-1:].isalnum():
        q += rng.choices(["?", "", ".", "!"], [0.6, 0.27, 0.08, 0.05])[0]
    return q


SYSTEMS = [
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "Be concise.",
    "You are an AI assistant that helps people find information.",
    "Answer in one sentence.",
    "You are demo, a friendly guide to serve.",
    "Be kind and honest.",
]


class Source:
    """Conversations without end."""

    def __init__(self, text, seed, holdout, long=False):
        self.text, self.rng, self.long = text, random.Random(seed), long
        self.stands_in = forbidden()
        self.topics, self.weights, self.held = [], [], []
        count = 0
        for questions, answers in text.topics:
            kept = []
            for q in questions:
                count += 1
                if holdout and count % 10 == 0 and len(questions) > 2:
                    self.held.append((q, len(self.topics)))
                else:
                    kept.append(q)
            self.topics.append((kept, answers))
            self.weights.append(len(questions) ** 0.5 if len(questions) < 30 else 4 * len(questions) ** 0.5)
        # In how many topics' questions a word occurs: one of few says which topic is meant.
        self.spread = collections.Counter()
        for questions, _ in self.topics:
            self.spread.update({w for q in questions for _ in range(30) for w in words(text.draw(q, self.rng))})
        self.common = [w for w, n in self.spread.items() if n > 15]

    def other_words(self, q):
        """The question with some of its words in place of which others may stand."""
        share = self.rng.choice([0, 0.3, 0.6])
        return self.text.synonym.sub(lambda m: self.rng.choice(self.text.synonyms[m[0]]) if self.rng.random() < share else m[0], q)

    def few_words(self, q):
        """Some of its words, perhaps in another order: what it is about, in whatever sentence."""
        rng = self.rng
        w = [x for x in q.split(" ") if rng.random() < (0.35 if self.spread["".join(words(x))] > 15 else 0.8)]
        if not any(0 < self.spread[y] <= 8 for x in w for y in words(x)):
            return q
        w += rng.choices(self.common, k=rng.randrange(4))
        if rng.random() < 0.6:
            rng.shuffle(w)
        return " ".join(w)

    def turn(self):
        while True:
            topic = self.rng.choices(range(len(self.topics)), self.weights)[0]
            questions, answers = self.topics[topic]
            q = self.other_words(self.text.draw(self.rng.choice(questions), self.rng))
            if self.rng.random() < 0.35:
                q = self.few_words(q)
            q = dress(q, self.rng)
            if words(q) + re.findall(r"[?.]", q) and not self.stands_in(q):
                return q, self.rng.choice(answers), topic

    def conversation(self):
        turns = self.rng.choices([1, 2, 3, 5, 8], [0.5, 0.2, 0.15, 0.1, 0.05] if self.long else [0.9, 0.05, 0.03, 0.01, 0.01])[0]
        system = self.rng.choice(SYSTEMS) if self.rng.random() < 0.15 else None
        return system, [self.turn() for _ in range(turns)]


# Tokens.


def asked(text):
    """What the template makes of a user's or a system's text."""
    return " " + text.lower()


def train_tokenizer(source):
    t = tokenizer_of(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    turns = (turn for _ in range(20000) for turn in source.conversation()[1])
    t.train_from_iterator((s for q, a, _ in turns for s in (asked(q), a)), trainer)
    return t


def tokenizer_of(t):
    """A tokenizer that cuts as CUT says."""
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CUT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    t.decoder = decoders.ByteLevel()
    return t


def read(path):
    """The tokenizer and the weights of a model that write wrote."""
    r = gguf.GGUFReader(path)
    strings = lambda name: [bytes(r.fields[name].parts[i]).decode() for i in r.fields[name].data]  # noqa: E731
    vocab = {token: i for i, token in enumerate(strings("tokenizer.ggml.tokens"))}
    merges = [tuple(m.split(" ")) for m in strings("tokenizer.ggml.merges")]
    tokenizer = tokenizer_of(Tokenizer(models.BPE(vocab=vocab, merges=merges)))
    tokenizer.add_special_tokens(SPECIAL)
    params = {"layers": [{} for _ in range(LAYERS)]}
    for t in r.tensors:
        value = gguf.quants.dequantize(t.data, t.tensor_type)
        where, name = params, t.name.removesuffix(".weight")
        if name.startswith("blk."):
            _, layer, name = name.split(".")
            where = params["layers"][int(layer)]
        where[name] = jnp.asarray(value.T if value.ndim == 2 and name != "token_embd" else value)
    return tokenizer, params


def rows(source, tokenizer, batch):
    """Batches of tokens, of segments (which conversation), of weights in the loss, of the topic
    that is asked about, where an answer begins (-1 elsewhere), and of questions (which of the
    row a token is of, -1 for none)."""
    rng = source.rng
    encode = lambda s: tokenizer.encode(s, add_special_tokens=False).ids  # noqa: E731

    def row():
        tokens, segments, learn, topics, questions = [], [], [], [], []
        segment = question = 0
        while len(tokens) <= CONTEXT:
            segment += 1
            system, turns = source.conversation()
            piece = [BOS] + ([SYSTEM] + encode(asked(system)) + [END] if system else [])
            # What is asked is learnt a little, too: it teaches what words mean.
            weight, topic, which = [0.05] * len(piece), [-1] * len(piece), [-1] * len(piece)
            for q, a, about in turns:
                words_asked = encode(asked(q))
                for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):  # words that it has never seen
                    at = rng.randrange(len(words_asked) + 1)
                    words_asked[at:at] = [rng.randrange(5, VOCAB) for _ in range(rng.choice([1, 1, 2, 3]))]
                before = [USER] + words_asked + [END, ASSISTANT]
                said = encode(a) + [END]
                if len(turns) == 1 and rng.random() < 0.9:
                    said = said[:9]  # which answer it is; the rest is soon known by heart
                piece += before + said
                weight += [0.05] * len(before) + [1.0] * len(said)
                topic += [-1] * (len(before) - 1) + [about] + [-1] * len(said)
                which += [-1] + [question] * len(words_asked) + [-1] * (len(said) + 2)
                question += 1
            tokens += piece
            learn += weight
            topics += topic
            questions += which
            segments += [segment] * len(piece)
        return [x[: CONTEXT + 1] for x in (tokens, segments, learn, topics, questions)]

    kinds = (np.int32, np.int32, np.float32, np.int32, np.int32)
    while True:
        yield tuple(np.array(x, kind) for kind, x in zip(kinds, zip(*(row() for _ in range(batch)))))


# The model: Llama's architecture, as llama.cpp computes it.


def init(key):
    keys = iter(jax.random.split(key, 64))
    normal = lambda *shape, scale=0.02: jax.random.normal(next(keys), shape) * scale  # noqa: E731
    deep = 0.02 / (2 * LAYERS) ** 0.5
    layer = lambda: {  # noqa: E731
        "attn_norm": jnp.ones(WIDTH),
        "attn_q": normal(WIDTH, WIDTH),
        "attn_k": normal(WIDTH, WIDTH),
        "attn_v": normal(WIDTH, WIDTH),
        "attn_output": normal(WIDTH, WIDTH, scale=deep),
        "ffn_norm": jnp.ones(WIDTH),
        "ffn_gate": normal(WIDTH, HIDDEN),
        "ffn_up": normal(WIDTH, HIDDEN),
        "ffn_down": normal(HIDDEN, WIDTH, scale=deep),
    }
    layers = [layer() for _ in range(LAYERS)]
    # From the start a token knows the mean of those before it: most of what a question is about.
    layers[0]["attn_v"] += jnp.eye(WIDTH)
    layers[0]["attn_output"] += jnp.eye(WIDTH)
    return {"token_embd": normal(VOCAB, WIDTH), "output_norm": jnp.ones(WIDTH), "layers": layers}


def norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON) * weight


def rotate(x):
    """Rotates pairs of neighbours, as llama.cpp does for Llama."""
    size = x.shape[-1]
    angle = jnp.arange(x.shape[1])[:, None] * ROPE_BASE ** (-jnp.arange(0, size, 2) / size)
    cos, sin = jnp.cos(angle)[None, :, None], jnp.sin(angle)[None, :, None]
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def forward(p, tokens, mask):
    x = p["token_embd"][tokens]
    n, length = tokens.shape
    for l in p["layers"]:
        h = norm(x, l["attn_norm"])
        q, k, v = (jnp.reshape(h @ l[name], (n, length, HEADS, -1)) for name in ("attn_q", "attn_k", "attn_v"))
        scores = jnp.einsum("nqhd,nkhd->nhqk", rotate(q), rotate(k)) / (WIDTH / HEADS) ** 0.5
        weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -1e9), -1)
        x += jnp.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, length, -1) @ l["attn_output"]
        h = norm(x, l["ffn_norm"])
        x += (jax.nn.silu(h @ l["ffn_gate"]) * (h @ l["ffn_up"])) @ l["ffn_down"]
    return norm(x, p["output_norm"])


def train(source, tokenizer, params, o):
    # While it learns it also says which topic a question is about, once after all layers and
    # once from the words alone, whatever their order: the shortest way to learn what each word
    # tells. These parts are not kept.
    for i, name in enumerate(("topics", "topics_of_words")):
        params[name] = jax.random.normal(jax.random.key(o.seed + 1 + i), (WIDTH, len(source.topics))) * 0.02
    warm = optax.warmup_cosine_decay_schedule(0, o.rate, 100, o.steps, o.rate / 50)
    matrices = jax.tree.map(lambda x: x.ndim > 1, params)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(warm, b2=0.98, weight_decay=0.1, mask=matrices))
    state = optimizer.init(params)

    def loss(p, tokens, segments, learn, topics, questions):
        mask = jnp.tril(jnp.ones((CONTEXT, CONTEXT), bool)) & (segments[:, :-1, None] == segments[:, None, :-1])
        out = forward(p, tokens[:, :-1], mask)
        each = optax.softmax_cross_entropy_with_integer_labels(out @ p["token_embd"].T, tokens[:, 1:])
        weight = learn[:, 1:] * (segments[:, 1:] == segments[:, :-1])
        topic = topics[:, :-1]
        about = optax.softmax_cross_entropy_with_integer_labels(out @ p["topics"], jnp.maximum(topic, 0))
        known = topic >= 0
        # The words of each question, summed, at the place where its answer begins.
        number = jax.lax.cummax(questions, axis=1)[:, :-1]
        of_same = (questions[:, None, :-1] == number[:, :, None]) & known[:, :, None]
        words = jnp.einsum("nqk,nkd->nqd", of_same.astype(jnp.float32), p["token_embd"][tokens[:, :-1]])
        of_words = optax.softmax_cross_entropy_with_integer_labels(words * 4 @ p["topics_of_words"] * 4, jnp.maximum(topic, 0))
        about += of_words
        said = jnp.sum(each * weight) / jnp.sum(weight)
        right = jnp.sum(known * (jnp.argmax(out @ p["topics"], -1) == topic)) / jnp.sum(known)
        return said + 0.5 * jnp.sum(about * known) / jnp.sum(known), (said, right)

    @jax.jit
    def step(p, state, *rows):
        (_, measures), grad = jax.value_and_grad(loss, has_aux=True)(p, *rows)
        change, state = optimizer.update(grad, state, p)
        return optax.apply_updates(p, change), state, measures

    start = time.time()
    for i, batch_of in zip(range(o.steps), rows(source, tokenizer, o.batch)):
        params, state, (said, right) = step(params, state, *batch_of)
        if i % 500 == 499:
            write(params, tokenizer, o.out)
        if i % 50 == 0 or i == o.steps - 1:
            print(f"step {i}: loss {said:.3f}, {100 * right:.0f} % of the topics, {time.time() - start:.0f} s", flush=True)
    return params


def judge(params, tokenizer, source, each=3):
    """How many of the questions that were held out are answered as their topics are."""
    run = jax.jit(lambda t: forward(params, t, jnp.tril(jnp.ones((1, t.shape[1], t.shape[1]), bool))) @ params["token_embd"].T)
    right, wrong = 0, []
    rng = random.Random(1)
    for parts, topic in source.held:
        answers = source.topics[topic][1]
        for _ in range(each):
            q = dress(source.text.draw(parts, rng), rng)
            tokens = [BOS, USER] + tokenizer.encode(asked(q), add_special_tokens=False).ids + [END, ASSISTANT]
            said = []
            for _ in range(24):  # enough to tell the answers apart
                padded = np.zeros((1, 128), np.int32)
                padded[0, : len(tokens)] = tokens[:128]
                said.append(int(run(padded)[0, len(tokens) - 1].argmax()))
                tokens.append(said[-1])
                if said[-1] == END or len(tokens) >= 128:
                    break
            text = tokenizer.decode(said)
            if any(a.startswith(text.strip()) for a in answers):
                right += 1
            else:
                wrong.append(f"{q!r}: {text!r}")
    print("\n".join(wrong))
    print(f"held out: {right} of {right + len(wrong)}")


def write(params, tokenizer, path):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("demo")
    w.add_description("A tiny model that knows serve, and nothing else")
    w.add_license("mit")
    w.add_context_length(NAMED_CONTEXT)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(HIDDEN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_layer_norm_rms_eps(EPSILON)
    w.add_rope_freq_base(ROPE_BASE)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(VOCAB)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in model["merges"]])
    w.add_bos_token_id(BOS)
    w.add_eos_token_id(END)
    w.add_add_bos_token(False)  # the template writes it
    w.add_chat_template(TEMPLATE)

    def tensor(name, value):
        # GGUF keeps a matrix as rows of what one output is made of.
        value = np.asarray(value.T if value.ndim == 2 and name != "token_embd" else value, np.float32)
        if value.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            w.add_tensor(name + ".weight", gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            w.add_tensor(name + ".weight", value)

    tensor("token_embd", params["token_embd"])
    tensor("output_norm", params["output_norm"])
    for i, layer in enumerate(params["layers"]):
        for name, value in layer.items():
            tensor(f"blk.{i}.{name}", value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("out")
    a.add_argument("--holdout", action="store_true")
    a.add_argument("--turns", action="store_true", help="half of the conversations have several turns: slower to learn from, and so for the second run")
    a.add_argument("--from", dest="begin", metavar="GGUF")
    a.add_argument("--steps", type=int, default=1400)
    a.add_argument("--batch", type=int, default=8)
    a.add_argument("--rate", type=float, default=2e-3)
    a.add_argument("--seed", type=int, default=2026)
    o = a.parse_args()
    source = Source(Text(HERE / "text.txt"), o.seed, o.holdout, o.turns)
    if o.begin:
        tokenizer, params = read(o.begin)
    else:
        tokenizer, params = train_tokenizer(source), init(jax.random.key(o.seed))
    params = train(source, tokenizer, params, o)
    write(params, tokenizer, o.out)
    if o.holdout:
        judge(params, tokenizer, source)


if __name__ == "__main__":
    main()
