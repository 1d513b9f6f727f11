// Untrusted markdown of a model rendered to DOM: parsed by marked, cleaned by DOMPurify,
// colored by highlight.js.

import DOMPurify from 'dompurify';
import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import c from 'highlight.js/lib/languages/c';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import go from 'highlight.js/lib/languages/go';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';
import { Marked, type Token, type TokensList } from 'marked';

const languages = { bash, c, cpp, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);

/** Longer code is not highlighted: that would block the page. */
const longestColored = 100_000;

const marked = new Marked({
  gfm: true,
  breaks: true, // models break lines as in a chat
  renderer: {
    // Fetching an image would tell its host that somebody reads this, so it is shown as a link.
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    // Markup is shown as text: it cannot be distinguished from an attack.
    html: ({ text }) => escape(text),
    code: ({ text, lang }) => {
      const language = hljs.getLanguage(lang ?? '') && text.length <= longestColored ? lang! : '';
      const inner = language ? hljs.highlight(text, { language, ignoreIllegals: true }).value : escape(text);
      return `<pre tabindex="0"><code data-lang="${escape(lang ?? '')}">${inner}</code></pre>`;
    },
  },
});

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** The blocks of a text: paragraphs, lists, code. While an answer grows, all but the last stay as they are. */
export function blocks(text: string): Token[] {
  const list = marked.lexer(text);
  return list.filter((t) => t.type !== 'space');
}

/** One block as DOM that is safe to show. */
export function render(block: Token): DocumentFragment {
  const html = marked.parser([block] as unknown as TokensList);
  const fragment = DOMPurify.sanitize(html, {
    RETURN_DOM_FRAGMENT: true,
    ALLOWED_TAGS: ['a', 'b', 'blockquote', 'br', 'code', 'del', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'i', 'input', 'kbd', 'li', 'ol', 'p', 'pre', 'span', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul'],
    ALLOWED_ATTR: ['href', 'class', 'start', 'align', 'tabindex', 'data-lang', 'type', 'checked', 'disabled'],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    // Attributes without URLs, which need no URL check.
    ADD_URI_SAFE_ATTR: ['start', 'align', 'tabindex', 'type', 'checked', 'disabled'],
  });
  for (const a of fragment.querySelectorAll('a')) {
    a.target = '_blank';
    a.rel = 'noopener noreferrer';
  }
  for (const box of fragment.querySelectorAll('input')) {
    if (box.type === 'checkbox') {
      box.disabled = true;
      box.ariaLabel = box.checked ? 'Done' : 'Not done';
    } else box.remove();
  }
  for (const pre of fragment.querySelectorAll('pre')) {
    const copy = document.createElement('button');
    copy.type = 'button';
    copy.className = 'copy';
    copy.textContent = 'Copy';
    const frame = document.createElement('div');
    frame.className = 'code';
    pre.replaceWith(frame);
    frame.append(copy, pre);
  }
  return fragment;
}
