// Shows the OpenAPI file. In a file of its own, since the page allows no script within it.
"use strict";

// Swagger UI has a dark scheme of its own, but only follows a class.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  url: "openapi.json", // beside this page, whatever the prefix is
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the validator is a stranger's server
});
