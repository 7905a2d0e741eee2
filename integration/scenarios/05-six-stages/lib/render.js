'use strict';

const escape = (s) => s.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const links = (s) => s.replace(/\[([^\]]+)\]\(([^)]+)\)/g, '<a href="$2">$1</a>');

/** A page of the small subset of Markdown that the site uses: headings, paragraphs, links. */
function render(text) {
  const blocks = text.trim().split(/\n\s*\n/).map((b) => escape(b.trim()));
  const title = blocks[0].replace(/^#\s*/, '');
  const body = blocks.map((b) => (b.startsWith('# ') ? `<h1>${b.slice(2)}</h1>` : `<p>${links(b)}</p>`));
  return `<!doctype html>\n<title>${title}</title>\n${body.join('\n')}\n`;
}

module.exports = { render };
