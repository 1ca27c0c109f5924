// Before the first paint: the theme chosen last, if one was. The admin has its own, "theme".
try {
  const theme = localStorage.getItem("desk-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage is closed: the system's theme stays */ }
