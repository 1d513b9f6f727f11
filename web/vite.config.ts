import { defineConfig } from 'vite';

// The page is embedded in the binary (web.go) and served at /. It is made of few files, and
// of nothing that a Content-Security-Policy without exceptions would refuse.
export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: { target: 'es2022', modulePreload: { polyfill: false }, assetsInlineLimit: 0, reportCompressedSize: false },
  // For work on the page: npx vite beside a serve, which it asks for all but itself.
  server: { proxy: Object.fromEntries(['/v1', '/api', '/catalog', '/status', '/metrics', '/key', '/keys', '/usage'].map((path) => [path, { target: 'http://127.0.0.1:8080', headers: { origin: 'http://127.0.0.1:8080' } }])) },
});
