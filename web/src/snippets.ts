// Examples of how programs use the server, in each API that it speaks.

export const dialects = ['OpenAI', 'Anthropic', 'Ollama'] as const;
export type Dialect = (typeof dialects)[number];
export const languages = ['curl', 'Python', 'JavaScript'] as const;
export type Language = (typeof languages)[number];

/** What clients of an API call its address. */
export function baseURL(address: string, dialect: Dialect): string {
  return dialect === 'OpenAI' ? `${address}/v1` : address;
}

/** The package of a client, as its package manager installs it; '' for curl. */
export function install(dialect: Dialect, language: Language): string {
  if (language === 'curl') return '';
  const name = language === 'JavaScript' && dialect === 'Anthropic' ? '@anthropic-ai/sdk' : dialect.toLowerCase();
  return `${language === 'Python' ? 'pip' : 'npm'} install ${name}`;
}

/** A program that asks a model; '' if the API cannot ask a model that only embeds. */
export function snippet(address: string, dialect: Dialect, language: Language, model: string, embeds: boolean): string {
  if (embeds && dialect === 'Anthropic') return '';
  const make = embeds ? embedding : chat;
  return make[language](address, dialect, JSON.stringify(model));
}

type Maker = (address: string, dialect: Dialect, model: string) => string;

/** The command that posts a body. A quote of the shell in it is escaped. */
function post(url: string, headers: string[], body: string): string {
  const lines = [`curl ${url}`, ...headers.map((h) => `-H '${h}'`), `-d '${body.replaceAll("'", "'\\''")}'`];
  return lines.join(' \\\n  ');
}

const json = 'Content-Type: application/json';

const chat: Record<Language, Maker> = {
  curl: (address, dialect, model) => {
    const messages = '"messages": [{"role": "user", "content": "Hello!"}]';
    switch (dialect) {
      case 'OpenAI':
        return post(`${address}/v1/chat/completions`, [json], `{"model": ${model}, ${messages}}`);
      case 'Anthropic':
        return post(`${address}/v1/messages`, [json, 'anthropic-version: 2023-06-01'], `{"model": ${model}, "max_tokens": 1024, ${messages}}`);
      case 'Ollama':
        return post(`${address}/api/chat`, [], `{"model": ${model}, "stream": false, ${messages}}`);
    }
  },
  Python: (address, dialect, model) => {
    const messages = 'messages=[{"role": "user", "content": "Hello!"}]';
    switch (dialect) {
      case 'OpenAI':
        return `from openai import OpenAI

client = OpenAI(base_url="${address}/v1", api_key="none")
answer = client.chat.completions.create(
    model=${model},
    ${messages},
)
print(answer.choices[0].message.content)`;
      case 'Anthropic':
        return `from anthropic import Anthropic

client = Anthropic(base_url="${address}", api_key="none")
message = client.messages.create(
    model=${model},
    max_tokens=1024,
    ${messages},
)
print(message.content[0].text)`;
      case 'Ollama':
        return `from ollama import Client

client = Client(host="${address}")
answer = client.chat(
    model=${model},
    ${messages},
)
print(answer.message.content)`;
    }
  },
  JavaScript: (address, dialect, model) => {
    const messages = 'messages: [{ role: "user", content: "Hello!" }]';
    switch (dialect) {
      case 'OpenAI':
        return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${address}/v1", apiKey: "none" });
const answer = await client.chat.completions.create({
  model: ${model},
  ${messages},
});
console.log(answer.choices[0].message.content);`;
      case 'Anthropic':
        return `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "${address}", apiKey: "none" });
const message = await client.messages.create({
  model: ${model},
  max_tokens: 1024,
  ${messages},
});
console.log(message.content[0].text);`;
      case 'Ollama':
        return `import { Ollama } from "ollama";

const client = new Ollama({ host: "${address}" });
const answer = await client.chat({
  model: ${model},
  ${messages},
});
console.log(answer.message.content);`;
    }
  },
};

const embedding: Record<Language, Maker> = {
  curl: (address, dialect, model) => {
    const body = `{"model": ${model}, "input": "Hello!"}`;
    return dialect === 'Ollama' ? post(`${address}/api/embed`, [], body) : post(`${address}/v1/embeddings`, [json], body);
  },
  Python: (address, dialect, model) =>
    dialect === 'Ollama'
      ? `from ollama import Client

client = Client(host="${address}")
answer = client.embed(model=${model}, input="Hello!")
print(answer.embeddings[0])`
      : `from openai import OpenAI

client = OpenAI(base_url="${address}/v1", api_key="none")
answer = client.embeddings.create(model=${model}, input="Hello!")
print(answer.data[0].embedding)`,
  JavaScript: (address, dialect, model) =>
    dialect === 'Ollama'
      ? `import { Ollama } from "ollama";

const client = new Ollama({ host: "${address}" });
const answer = await client.embed({ model: ${model}, input: "Hello!" });
console.log(answer.embeddings[0]);`
      : `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${address}/v1", apiKey: "none" });
const answer = await client.embeddings.create({ model: ${model}, input: "Hello!" });
console.log(answer.data[0].embedding);`,
};
