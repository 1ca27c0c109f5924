// Before the first paint: the theme chosen last, if one was.
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage is closed: the system's theme stays */ }
