// A click on a heading of a table of class "sort" sorts it by that column; a second click turns the order around.
document.querySelectorAll('table.sort th').forEach((th, i) => th.addEventListener('click', () => {
  const body = th.closest('table').tBodies[0], down = th.dataset.down = th.dataset.down === '1' ? '' : '1';
  const key = r => r.cells[i].dataset.v ?? r.cells[i].textContent;
  const order = (x, y) => x !== '' && y !== '' && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y);
  [...body.rows].sort((a, b) => order(key(a), key(b))*(down ? -1 : 1)).forEach(r => body.append(r));
}));
