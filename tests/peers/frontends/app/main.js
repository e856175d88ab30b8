import { word } from './word.js';

const show = (text) => { document.querySelector('#word').textContent = text; };
show(word);
import.meta.hot.accept('./word.js', (changed) => show(changed.word));

// What an application does with its API: a request, and a WebSocket.
window.use = async () => {
  const response = await fetch('/api/orders', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' });
  const socket = new WebSocket(`ws://${location.host}/socket`);
  const echo = await new Promise((resolve) => {
    socket.onopen = () => socket.send('hello');
    socket.onmessage = ({ data }) => resolve(data);
    socket.onerror = () => resolve('refused');
  });
  return { status: response.status, text: await response.text(), echo, icon: document.querySelector('#icon').naturalWidth };
};
