variable "name" {
  description = "Name of the kind cluster."
  type        = string
  default     = "headwater"
}

variable "kubernetes" {
  description = "The image of its node."
  type        = string
  default     = "kindest/node:v1.34.0"
}

variable "repository" {
  description = "The feature repository whose plan is installed."
  type        = string
  default     = "flights"
}

variable "install" {
  description = "Install the chart too: load the images and make the secret first (docs/runbooks/install.md)."
  type        = bool
  default     = false
}
